"""Dynamical isometry: orthogonal weights again after pruning, before fine-tuning.

Wang, Qin, Bai, Fu, Why is the State of Neural Network Pruning so Confusing?, 2021 (arXiv 2105.05916). Pruned weights
are an initialisation, and pruning shrinks the singular values of the input-output Jacobian. OrthP puts the orthonormal
factor of a QR decomposition in the weight's place; under an unstructured mask it is approached by minimising
``|W W' - g^2 I|^2`` on the survivors. It is exact for linear networks; on ReLU networks the
authors found no gain (docs/methods.md), and none was measured here: a tool for study.
"""

import fnmatch
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    constraints_of,
    free_value,
    mask_of,
    parameter_names,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning


class DynamicalIsometryConfig(BaseModel):
    """Settings of the re-initialisation.

    Attributes
    ----------
    weights : name patterns
    gain : singular value to reach; the square root of 2 suits ReLU
    iterations, learning_rate : of Adam under a mask; without a mask the solution is exact
    fine_tune : trains afterwards
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["dynamical_isometry"] = "dynamical_isometry"
    weights: tuple[str, ...] = ("*",)
    gain: PositiveFloat = 1.0
    iterations: PositiveInt = 300
    learning_rate: PositiveFloat = 0.01
    fine_tune: FineTuning | None = None


def orthogonal(weight: Tensor, gain: float) -> Tensor:
    """OrthP: the orthonormal factor of the weight as a matrix, times ``gain``; the sign follows the diagonal of R.

    Parameters
    ----------
    weight : (out, ...) ; more columns than rows are transposed first
    """
    matrix = weight.flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = torch.linalg.qr(matrix.T if wide else matrix)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    result: Tensor = (gain * (q.T if wide else q)).reshape(weight.shape)
    return result


def nearly_orthogonal(weight: Tensor, mask: Tensor, gain: float, iterations: int, rate: float) -> Tensor:
    """Bring a masked weight near orthogonality: Adam on ``|W W' - gain^2 I|^2`` over the survivors."""
    rows = weight.flatten(1).shape[0] <= weight.flatten(1).shape[1]
    free = (weight * mask).detach().clone().requires_grad_()
    aim = gain**2 * torch.eye(min(weight.flatten(1).shape), dtype=weight.dtype)
    optimizer = torch.optim.Adam([free], rate)
    for _ in range(iterations):
        matrix = (free * mask).flatten(1)
        loss = ((matrix @ matrix.T if rows else matrix.T @ matrix) - aim).square().sum()
        (free.grad,) = torch.autograd.grad(loss, free)
        optimizer.step()
    return (free * mask).detach()


@dataclass(frozen=True)
class JacobianStatistics:
    """Singular values of the input-output Jacobian, over samples: their mean, mean (s - 1)^2, mean condition number."""

    mean: float
    distance_to_one: float
    condition: float


def jacobian_statistics(model: nn.Module, inputs: Tensor) -> JacobianStatistics:
    """Measure how far ``model`` is from dynamical isometry on ``inputs``, (n, *shape)."""
    jacobians = torch.vmap(torch.func.jacrev(lambda x: model(x[None])[0]))(inputs)
    values = torch.linalg.svdvals(jacobians.detach().flatten(2))
    return JacobianStatistics(
        float(values.mean()),
        float((values - 1).square().mean()),
        float((values[:, 0] / values[:, -1].clamp(min=1e-12)).mean()),
    )


class DynamicalIsometry:
    """Re-initialise weights to orthogonal ones, masks respected."""

    name: ClassVar = "dynamical_isometry"
    config_type: ClassVar = DynamicalIsometryConfig

    def __init__(self, config: DynamicalIsometryConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Orthogonalise ``model`` in place and fine-tune it."""
        config = self.config
        for name in self._weights(model):
            if any(isinstance(c, SharedCodebook) for c in constraints_of(model, name)):
                raise ConstraintError(f"dynamical_isometry: {name!r} has a codebook already.")
            mask, value = mask_of(model, name), value_of(model, name).detach()
            new = (
                orthogonal(value, config.gain)
                if mask is None
                else nearly_orthogonal(value, mask, config.gain, config.iterations, config.learning_rate)
            )
            with torch.no_grad():
                free_value(model, name).copy_(new)
        if config.fine_tune is not None:
            bench.fine_tune(model, config.fine_tune, self.name)

    def _weights(self, model: nn.Module) -> list[str]:
        known = [n for n in parameter_names(model) if value_of(model, n).ndim > 1]
        found = [n for n in known if any(fnmatch.fnmatchcase(n, p) for p in self.config.weights)]
        if not found:
            raise ConstraintError(
                f"dynamical_isometry: no weight matches {list(self.config.weights)}. Weights: {', '.join(known)}."
            )
        return found

    def ensure(self, model: nn.Module) -> None:
        """Check that every weight is finite."""
        for name in self._weights(model):
            if not value_of(model, name).isfinite().all():
                raise ConstraintError(f"dynamical_isometry: {name!r} is not finite; lower the learning rate.")
