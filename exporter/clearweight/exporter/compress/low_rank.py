"""Low-rank factorization: a layer in the place of which two thinner ones run.

A linear layer's weight becomes ``left @ right`` by a truncated singular value decomposition (SVD), plain or weighted by
the Fisher information of its rows (Hsu et al., Language Model Compression with Weighted Low-Rank Factorization, ICLR
2022: the sum of the Fisher diagonal over a row says how much an error in that row costs). A convolution becomes a
vertical one behind which a horizontal one runs (Jaderberg et al., Speeding up Convolutional Neural Networks with Low
Rank Expansions, BMVC 2014, scheme 2), by the SVD of its kernels laid out as (inputs x height) by (outputs x width).

The factors take the weight's place: ``fc1.weight.left`` and ``fc1.weight.right`` are pruned and shared like any other.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from clearweight.exporter.compress.constraint import (
    Constraint,
    constraints_of,
    factored,
    free_value,
    locate,
    parameter_names,
    put,
    value_of,
    whole_names,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning, epoch_batches

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class LowRank(Constraint):
    """The product of two factors: ``left`` (outputs, rank) and ``right`` (rank, inputs)."""

    kind: ClassVar = "low_rank"
    replaces: ClassVar = True
    factors: ClassVar = ("left", "right")

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)

    def forward(self, _weight: Tensor) -> Tensor:
        """Return ``left @ right``."""
        return self.left @ self.right


class Separable(Constraint):
    """Two filters one behind the other: ``vertical`` (rank, inputs, h, 1), ``horizontal`` (outputs, rank, 1, w)."""

    kind: ClassVar = "separable"
    replaces: ClassVar = True
    factors: ClassVar = ("vertical", "horizontal")

    def __init__(self, vertical: Tensor, horizontal: Tensor) -> None:
        super().__init__()
        self.vertical, self.horizontal = nn.Parameter(vertical), nn.Parameter(horizontal)

    def forward(self, _weight: Tensor) -> Tensor:
        """Return the kernels of the one convolution that both make together, (outputs, inputs, h, w)."""
        return torch.einsum("rihx,oryw->oihw", self.vertical, self.horizontal)


class LowRankConfig(BaseModel):
    """Settings of low-rank factorization; exactly one of ``energy`` and ``share``.

    Attributes
    ----------
    layers : name patterns of the weights to factor
    energy : share of the squared singular values that each layer keeps
    share : of its weights that each layer may keep at most
    weighting : ``fisher`` weighs each output by how much its errors cost; ``none`` is the plain SVD
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["low_rank"] = "low_rank"
    layers: tuple[str, ...] = Field(min_length=1)
    energy: Share | None = None
    share: Share | None = None
    weighting: Literal["none", "fisher"] = "fisher"
    samples: PositiveInt = 512
    fine_tune: FineTuning

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if (self.energy is None) == (self.share is None):
            raise ValueError("exactly one of energy and share is expected")
        return self


def energy_rank(singular: Tensor, energy: float) -> int:
    """Return the least rank whose squared singular values hold this share of all; at least 1."""
    held = singular.square().cumsum(0)
    return min(len(singular), 1 + int((held < energy * held[-1]).sum()))


def affordable_rank(shape: torch.Size, share: float) -> int:
    """Return the largest rank whose two factors have at most this share of the matrix's entries; at least 1."""
    rows, columns = shape
    return max(1, int(share * rows * columns / (rows + columns)))


def factors(matrix: Tensor, weights: Tensor, rank: int | None, energy: float | None) -> tuple[Tensor, Tensor]:
    """Factor a matrix so that ``sum_i weights_i |row_i of the error|^2`` is least for its rank.

    Parameters
    ----------
    matrix : (m, n)
    weights : (m,), positive

    Returns
    -------
    (m, r) and (r, n), float32; both carry the square root of the singular values, so that they train alike
    """
    scale = weights.double().sqrt()
    u, s, v = torch.linalg.svd(scale[:, None] * matrix.double(), full_matrices=False)
    r = energy_rank(s, energy) if energy is not None else min(int(rank or 1), len(s))
    root = s[:r].sqrt()
    return ((u[:, :r] * root) / scale[:, None]).float(), (root[:, None] * v[:r]).float()


def separated(
    kernels: Tensor, weights: Tensor, rank: int | None, energy: float | None
) -> tuple[Tensor, Tensor]:
    """Factor kernels (o, i, h, w) into vertical (r, i, h, 1) and horizontal (o, r, 1, w); ``weights`` (o,)."""
    o, i, h, w = kernels.shape
    rows = kernels.permute(0, 3, 1, 2).reshape(o * w, i * h)
    left, right = factors(rows, weights.repeat_interleave(w), rank, energy)
    return right.reshape(-1, i, h, 1), left.reshape(o, w, -1).permute(0, 2, 1)[:, :, None, :].contiguous()


def chosen_weights(config: LowRankConfig, model: nn.Module) -> list[str]:
    """Return the weights to factor.

    Raises
    ------
    ConstraintError
        A pattern matches no weight of a linear layer or an ungrouped two-dimensional convolution, or one that is
        constrained already.
    """
    known = [name for name in parameter_names(model) if _can_be_factored(model, name)]
    found: dict[str, None] = {}
    for pattern in config.layers:
        matched = fnmatch.filter(known, pattern)
        if not matched:
            raise ConstraintError(
                f"low_rank: the pattern {pattern!r} matches no weight of a linear layer or of a plain convolution in "
                f"two dimensions. Weights: {', '.join(known)}."
            )
        found |= dict.fromkeys(matched)
    for name in found:
        if any(True for _ in constraints_of(model, name)):
            raise ConstraintError(f"low_rank: {name!r} is constrained already; factor it first, then go on.")
    return list(found)


def _can_be_factored(model: nn.Module, name: str) -> bool:
    owner, attribute = locate(model, name)
    plain = isinstance(owner, nn.Conv2d) and owner.groups == 1 and owner.padding_mode == "zeros"
    return attribute == "weight" and (isinstance(owner, nn.Linear) or plain)


def row_importance(model: nn.Module, names: list[str], bench: Workbench, count: int) -> Mapping[str, Tensor]:
    """Return the mean squared gradient of the whole objective per output, summed over its weights; never zero."""
    sums = {name: torch.zeros(len(value_of(model, name))) for name in names}
    loss, draws = bench.loss(model), torch.Generator().manual_seed(bench.runtime.seed)
    size = min(32, len(bench.samples))
    for _, index in zip(
        range(max(1, count // size)), epoch_batches(len(bench.samples), size, draws, 0, 1), strict=False
    ):
        model.zero_grad()
        loss(model, bench.samples.inputs[index], bench.samples.labels[index], draws).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        for name in names:
            gradient = free_value(model, name).grad
            if gradient is not None:
                sums[name] += gradient.square().flatten(1).sum(1).cpu()
    model.zero_grad()
    return {name: total + 1e-6 * total.mean() + 1e-30 for name, total in sums.items()}


class LowRankFactorization:
    """Put two factors in the place of weights and train them."""

    name: ClassVar = "low_rank"
    config_type: ClassVar = LowRankConfig

    def __init__(self, config: LowRankConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Factor and train ``model`` in place."""
        config = self.config
        names = chosen_weights(config, model)
        weights = {name: torch.ones(len(value_of(model, name))) for name in names}
        if config.weighting == "fisher":
            weights = dict(row_importance(model, names, bench, config.samples))
        for name in names:
            value = value_of(model, name).detach()
            rank = None if config.share is None else affordable_rank(_matrix_shape(value), config.share)
            made: Constraint
            if value.ndim == 2:
                made = LowRank(*factors(value.cpu(), weights[name], rank, config.energy))
            else:
                made = Separable(*separated(value.cpu(), weights[name], rank, config.energy))
            put(model, name, made.to(value.device))
        bench.fine_tune(model, config.fine_tune, self.name)

    def ensure(self, model: nn.Module) -> None:
        """Check that every named weight is factored, within its budget."""
        made = {name: c for name in whole_names(model) if (c := factored(model, name)) is not None}
        for pattern in self.config.layers:
            if not fnmatch.filter(made, pattern):
                raise ConstraintError(f"low_rank: no weight that {pattern!r} matches has factors.")
        for name, constraint in made.items():
            whole = value_of(model, name)
            held = sum(value_of(model, f"{name}.{factor}").numel() for factor in constraint.factors)
            rows, columns = _matrix_shape(whole)
            most = (
                rows + columns
                if self.config.share is None
                else max(rows + columns, self.config.share * whole.numel())
            )
            if self.config.share is not None and held > most:
                raise ConstraintError(
                    f"low_rank: the factors of {name!r} hold {held} of {whole.numel()} weights."
                )


def _matrix_shape(value: Tensor) -> torch.Size:
    if value.ndim == 2:
        return value.shape
    o, i, h, w = value.shape
    return torch.Size((o * w, i * h))
