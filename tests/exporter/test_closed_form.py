"""Closed-form layers, against gradient descent, brute force and their constraints."""

import itertools

import pytest
import torch

from clearweight.exporter.closed_form import ridge, simplex_weights, stiefel_decision


def drawn(n=60, d=5, c=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, c, generator=generator, dtype=torch.float64)


def loss(w, b, x, z, gamma):
    return (x @ w.T + b - z).square().sum() + gamma * w.square().sum()


def test_ridge_is_where_the_gradient_vanishes():
    x, z = drawn()
    w, b = (t.requires_grad_() for t in ridge(x, z, 0.7))

    slopes = torch.autograd.grad(loss(w, b, x, z, 0.7), [w, b])

    assert all(s.abs().max() < 1e-9 for s in slopes)


def test_ridge_under_a_mask_is_where_the_gradient_of_the_kept_vanishes():
    x, z = drawn()
    kept = torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    kept[2] = False
    w, b = (t.requires_grad_() for t in ridge(x, z, 0.7, kept))

    by_weight, by_bias = torch.autograd.grad(loss(w, b, x, z, 0.7), [w, b])

    assert not w[~kept].any()
    assert by_weight[kept].abs().max() < 1e-9
    assert by_bias.abs().max() < 1e-9
    assert by_weight[~kept].abs().max() > 1e-3


def test_simplex_weights_are_the_best_projection_that_keeps_so_many():
    """``|alpha + f / (2 lambda)|^2`` on the simplex, against a search over all supports."""
    losses = torch.tensor([0.3, 0.1, 2.0, 0.4, 0.9], dtype=torch.float64)
    alpha = simplex_weights(losses, 3)
    lam = float((3 * losses.sort().values[3] - losses.sort().values[:3].sum()) / 2)
    target = -losses / (2 * lam)
    best = None
    for size in range(1, 6):
        for support in map(list, itertools.combinations(range(5), size)):
            t = (1 - target[support].sum()) / size
            candidate = torch.zeros(5, dtype=torch.float64)
            candidate[support] = target[support] + t
            if (candidate >= -1e-12).all():
                distance = float((candidate - target).square().sum())
                best = min(best or (distance, candidate), (distance, candidate), key=lambda p: p[0])

    assert torch.allclose(alpha, best[1])
    assert float(alpha.sum()) == pytest.approx(1.0)
    assert int((alpha > 0).sum()) == 3


def test_simplex_weights_of_equal_losses_are_equal():
    assert simplex_weights(torch.ones(4), 2).tolist() == [0.25] * 4


def clusters(n=300):
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centres = 4 * torch.randn(3, 8, generator=generator)
    return centres[labels] + torch.randn(n, 8, generator=generator), labels


def test_the_stiefel_layer_is_orthonormal_under_the_weighted_scatter_and_decides_well():
    x, labels = clusters()
    w, b, _ = stiefel_decision(x, labels, 3, 1e-3, keep=1.0)
    centred = x.double() - x.double().mean(0)
    scatter = centred.T @ centred / len(x) + 1e-3 * torch.eye(8, dtype=torch.float64)

    assert torch.allclose(w @ scatter @ w.T, torch.eye(3, dtype=torch.float64), atol=1e-8)
    assert float(((x.double() @ w.T + b).argmax(1) == labels).float().mean()) > 0.97


def test_samples_with_wrong_labels_lose_their_weight():
    x, labels = clusters()
    wrong = labels.clone()
    wrong[:30] = (labels[:30] + 1) % 3

    _, _, used = stiefel_decision(x, wrong, 3, 1e-3, keep=0.9)

    assert float(used.sum()) == pytest.approx(1.0)
    assert (used[:30] == 0).sum() > 25
    assert (used[30:] == 0).sum() < 10
