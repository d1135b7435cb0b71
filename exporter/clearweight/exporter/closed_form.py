"""Layers fitted in closed form: ridge regression and the flexible Stiefel decision layer.

Zhang, Jiao, Zhang, Li, Non-Gradient Manifold Neural Network, TPAMI 2023, after the authors' code. Rows are samples
here, columns features; everything is computed in float64.
"""

import torch
from torch import Tensor


def ridge(inputs: Tensor, targets: Tensor, gamma: float, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Minimise ``|X W' + b - Z|^2 + gamma |W|^2``, the bias free.

    Parameters
    ----------
    inputs : (n, d) ; targets : (n, c) ; gamma : > 0
    kept : bool, (c, d): where W may differ from zero; each row is then solved on its own columns. None is everywhere

    Returns
    -------
    W (c, d) and b (c,), float64
    """
    x, z = inputs.double(), targets.double()
    mean_x, mean_z = x.mean(0), z.mean(0)
    x, z = x - mean_x, z - mean_z
    gram = x.T @ x + gamma * torch.eye(x.shape[1], dtype=x.dtype)
    cross = x.T @ z
    if kept is None:
        weight = torch.linalg.solve(gram, cross).T
    else:
        weight = torch.zeros_like(cross.T)
        for row, columns in enumerate(kept):
            place = torch.nonzero(columns).flatten()
            weight[row, place] = torch.linalg.solve(gram[place][:, place], cross[place, row])
    return weight, mean_z - weight @ mean_x


def simplex_weights(losses: Tensor, keep: int) -> Tensor:
    """Sample weights that drop the hardest: the projection of ``-loss / (2 lambda)`` on the ``keep``-sparse simplex.

    ``alpha = (t - f / (2 lambda))_+`` with lambda such that the ``keep + 1``-th smallest loss gets nothing.

    Parameters
    ----------
    losses : (n,) >= 0 ; keep : 1 to n

    Returns
    -------
    (n,) >= 0 with sum 1
    """
    ordered = losses.sort().values
    if keep >= len(losses):
        return torch.full_like(losses, 1.0 / len(losses))
    edge, total = ordered[keep], ordered[:keep].sum()
    spread = keep * edge - total
    if spread <= 0:
        return torch.where(losses <= edge, 1.0, 0.0) / (losses <= edge).sum()
    return ((edge - losses) / spread).clamp(min=0.0)


def stiefel_decision(
    inputs: Tensor, labels: Tensor, classes: int, gamma: float, *, keep: float = 0.9, rounds: int = 20
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a decision layer with columns orthonormal under the data: ``W S W' = I``, with slack beyond the margin.

    Alternates the slack ``M = max(0, Y o F - 1)`` of the scores F (a target may be overshot without cost), the sample
    weights of `simplex_weights`, and ``W = S^-1/2 U V'`` from the singular vectors of ``S^-1/2 X' H D H' Z``.

    Parameters
    ----------
    inputs : (n, d), d >= classes ; labels : (n,) int64
    gamma : ridge of the scatter S = X' H D H' X + gamma I
    keep : share of the samples that count

    Returns
    -------
    W (classes, d), b (classes,) and the sample weights (n,), float64
    """
    x = inputs.double()
    signs = -torch.ones(len(x), classes, dtype=x.dtype)
    signs[torch.arange(len(x)), labels] = 1.0
    alpha = torch.full((len(x),), 1.0 / len(x), dtype=x.dtype)
    aim, before = signs, float("inf")
    for _ in range(rounds):
        mean_x, mean_z = alpha @ x, alpha @ aim
        centred = x - mean_x
        scatter = centred.T @ (alpha[:, None] * centred) + gamma * torch.eye(x.shape[1], dtype=x.dtype)
        values, vectors = torch.linalg.eigh(scatter)
        root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
        left, _, right = torch.linalg.svd(
            root @ centred.T @ (alpha[:, None] * (aim - mean_z)), full_matrices=False
        )
        weight = (root @ left @ right).T
        bias = mean_z - weight @ mean_x
        scores = x @ weight.T + bias
        aim = signs + signs * (signs * scores - 1.0).clamp(min=0.0)
        losses = (scores - aim).square().sum(1)
        objective = float(alpha @ losses)
        used = alpha
        if before - objective < 1e-4 * before:
            break
        before = objective
        alpha = simplex_weights(losses, max(1, round(keep * len(x))))
    return weight, bias, used
