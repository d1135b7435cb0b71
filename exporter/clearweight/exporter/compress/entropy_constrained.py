"""Entropy-constrained quantization: few shared values, chosen so that the distortion *and* the code are short.

Chou, Lookabaugh, Gray, Entropy-Constrained Vector Quantization, IEEE Trans. ASSP 1989, in one dimension, with the
weighted distortion of Gao et al., Rate Distortion for Model Compression, ICML 2019. Zero is one of the symbols, so that
places are paid for as well and quantization goes on pruning; one multiplier serves all tensors, which shares the bits
among them at equal slope. In stages, the weights that are quantized first let the others make up for their error (Zhou,
Yao, Guo, Xu, Chen, Incremental Network Quantization, ICLR 2017).
"""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Generator, Tensor, nn

from clearweight.exporter.compress.allocation import top_mask
from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    constraints_of,
    free_value,
    parameter_names,
    put_codebook,
    value_of,
)
from clearweight.exporter.compress.share_weights import initial_centroids
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.importance import Statistic
from clearweight.exporter.training import FineTuning

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
# Octaves in which the multiplier is sought, and halvings of that range.
_OCTAVES = (-60.0, 20.0)
_HALVINGS = 24


class EntropyConstrainedConfig(BaseModel):
    """Settings of entropy-constrained quantization.

    Attributes
    ----------
    bits_per_weight : entropy to reach, places included, as a mean over all weights of the matched tensors
    weights : name patterns of the tensors to quantize; biases and other vectors never are
    symbols : values per tensor to begin with; those that do not pay for themselves go
    importance : what a squared error costs: the same everywhere, by the answer, by the map, or by both
    attribution_share : of the map beside the answer, in ``output_and_attribution``
    statistic_samples : how many fitting samples the importance is measured on
    stages : rising shares of each tensor's survivors, the largest first, that stay at their quantized value while the
        others train on; quantized as zero counts as done at once. Empty quantizes all at the same time
    stage_tune : how each stage trains
    fine_tune : trains the values at the end; None leaves them at the weighted means
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["entropy_constrained"] = "entropy_constrained"
    bits_per_weight: PositiveFloat
    weights: tuple[str, ...] = Field(default=("*",), min_length=1)
    symbols: int = Field(default=31, ge=1, le=255)
    importance: Literal["equal", "fisher", "attribution", "output_and_attribution"] = "output_and_attribution"
    attribution_share: NonNegativeFloat = 1.0
    statistic_samples: PositiveInt = 1000
    stages: tuple[Share, ...] = ()
    stage_tune: FineTuning | None = None
    fine_tune: FineTuning | None = None

    @model_validator(mode="after")
    def _stages_train(self) -> "EntropyConstrainedConfig":
        if bool(self.stages) != (self.stage_tune is not None):
            raise ValueError("stages and stage_tune belong together")
        if list(self.stages) != sorted(self.stages):
            raise ValueError(f"stages must rise, found {list(self.stages)}")
        return self


@dataclass(frozen=True, eq=False)
class Quantized:
    """One tensor's codebook (zero first) and flat indices."""

    codebook: Floats
    indices: Indices


def code_lengths(counts: NDArray[np.int64]) -> Floats:
    """Ideal code lengths in bits, ``-log2 p``; infinite for a symbol that does not occur."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(counts / counts.sum()), dtype=np.float64)


def entropy_bits(indices: Indices) -> float:
    """Bits of a stream of symbols under its own ideal code."""
    counts = np.bincount(indices.ravel())
    counts = counts[counts > 0]
    return float((counts * code_lengths(counts)).sum())


def quantize(
    weight: Floats, importance: Floats, centroids: Floats, multiplier: float, rounds: int = 50
) -> tuple[Floats, Indices]:
    """Minimise ``sum_i importance_i (w_i - c_q(i))^2 + multiplier * bits`` by alternating descent.

    Each round gives every survivor its cheapest symbol, then every symbol the weighted mean of its members and the code
    length of its frequency; none of the three can raise the sum. Entries that are zero stay zero; others may become it.

    Parameters
    ----------
    weight, importance : float64, (n,) ; importance >= 0
    centroids : (k,) where to begin
    multiplier : distortion that one bit is worth

    Returns
    -------
    codebook : (k' + 1,), zero first, only symbols that occur (and zero)
    indices : int64, (n,)
    """
    alive = np.flatnonzero(weight)
    values, worth = weight[alive], importance[alive]
    book = np.concatenate([[0.0], np.sort(centroids)])
    zeros = len(weight) - len(alive)
    own = 1 + np.searchsorted((book[2:] + book[1:-1]) / 2, values)
    for _ in range(rounds):
        counts = np.bincount(own, minlength=len(book))
        counts[0] += zeros
        used = counts > 0
        used[0] = True
        book, own = book[used], (np.cumsum(used) - 1)[own]
        weights = np.bincount(own, worth, len(book))
        sums = np.bincount(own, worth * values, len(book))
        moved = np.divide(sums, weights, out=book.copy(), where=weights > 0)
        moved[0] = 0.0
        # Zero can always be had: without members it costs what the rarest symbol does.
        lengths = code_lengths(np.maximum(counts[used], 1))
        cost = worth[:, None] * (values[:, None] - moved) ** 2 + multiplier * lengths
        now = cost.argmin(1)
        settled = np.array_equal(now, own) and np.array_equal(moved, book)
        book, own = moved, now
        if settled:
            break
    kept, packed = np.unique(np.concatenate([[0], own]), return_inverse=True)
    indices = np.zeros(len(weight), dtype=np.int64)
    indices[alive] = packed[1:]
    return book[kept], indices


def quantize_to_rate(
    weights: Mapping[str, Floats], importances: Mapping[str, Floats], symbols: int, bits_per_weight: float
) -> dict[str, Quantized]:
    """Quantize tensors with the one multiplier that brings them to a mean entropy, found by bisection.

    Parameters
    ----------
    weights, importances : name -> float64, (n,)
    symbols : values per tensor to begin with, evenly spaced
    bits_per_weight : entropy to stay below, over all entries of all tensors
    """
    size = sum(len(w) for w in weights.values())
    starts = {
        name: initial_centroids(w[w != 0], symbols, "linear") if w.any() else np.zeros(1)
        for name, w in weights.items()
    }

    def at(octave: float) -> dict[str, Quantized]:
        price = 2.0**octave
        return {
            name: Quantized(*quantize(w, importances[name], starts[name], price))
            for name, w in weights.items()
        }

    low, high = _OCTAVES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        bits = sum(entropy_bits(q.indices) for q in at(middle).values())
        low, high = (middle, high) if bits > bits_per_weight * size else (low, middle)
    return at(high)


def matched(config: EntropyConstrainedConfig, model: nn.Module) -> list[str]:
    """Return the tensors that ``config`` quantizes.

    Raises
    ------
    ConstraintError
        A pattern matches no weight.
    """
    known = [name for name in parameter_names(model) if value_of(model, name).ndim > 1]
    for pattern in config.weights:
        if not fnmatch.filter(known, pattern):
            raise ConstraintError(
                f"entropy_constrained: the pattern {pattern!r} matches no weight. Weights: {', '.join(known)}."
            )
    return [n for n in known if any(fnmatch.fnmatchcase(n, pattern) for pattern in config.weights)]


class EntropyConstrained:
    """Put codebooks on tensors at a given rate and train their values."""

    name: ClassVar = "entropy_constrained"
    config_type: ClassVar = EntropyConstrainedConfig

    def __init__(self, config: EntropyConstrainedConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Quantize and fine-tune ``model`` in place."""
        config = self.config
        for share in config.stages:
            self._stage(model, bench, share)
        for name, quantized in self._quantized(model, bench).items():
            value = value_of(model, name)
            values = quantized.codebook[1:] if len(quantized.codebook) > 1 else np.zeros(1)
            centroids = torch.from_numpy(values).to(value)
            put_codebook(
                model, name, centroids, torch.from_numpy(quantized.indices).view(value.shape).to(value.device)
            )
        if config.fine_tune is not None:
            bench.fine_tune(model, config.fine_tune, self.name)

    def _quantized(self, model: nn.Module, bench: Workbench) -> dict[str, Quantized]:
        config = self.config
        weights = {n: _flat(value_of(model, n)) for n in matched(config, model)}
        importances = self._importances(model, bench, weights)
        return quantize_to_rate(weights, importances, config.symbols, config.bits_per_weight)

    def _stage(self, model: nn.Module, bench: Workbench, share: float) -> None:
        """Quantize, hold the zeros and the largest ``share`` of the survivors, and let the others train."""
        held: list[tuple[Tensor, Tensor, Tensor]] = []
        for name, quantized in self._quantized(model, bench).items():
            free = free_value(model, name)
            values = torch.from_numpy(quantized.codebook[quantized.indices]).to(free).view_as(free)
            fixed = values == 0
            size = value_of(model, name).detach().abs().masked_fill(fixed, -1.0)
            fixed |= top_mask(size, round(share * int((~fixed).sum())))
            held.append((free, fixed, values))

        def hold(_step: int, _steps: int) -> None:
            with torch.no_grad():
                for free, fixed, values in held:
                    free.copy_(torch.where(fixed, values, free))

        hold(0, 0)
        if self.config.stage_tune is not None:
            bench.fine_tune(model, self.config.stage_tune, f"{self.name} ({share:.0%})", on_step=hold)

    def _importances(
        self, model: nn.Module, bench: Workbench, weights: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        config = self.config
        shares: dict[str, dict[Statistic, float]] = {
            "equal": {},
            "fisher": {"fisher": 0.5},
            "attribution": {"attribution": 1.0},
            "output_and_attribution": {"fisher": 0.5, "attribution": config.attribution_share},
        }
        wanted = shares[config.importance]
        if not wanted:
            return {name: np.ones_like(w) for name, w in weights.items()}
        draws = Generator().manual_seed(bench.runtime.seed + 2)
        known = bench.importance(model, frozenset(wanted), config.statistic_samples, draws)
        return {
            name: np.sum([share * _flat(known[kind][name]) for kind, share in wanted.items()], axis=0)
            for name in weights
        }

    def ensure(self, model: nn.Module) -> None:
        """Check that the entropy of all codes together is below what was asked for."""
        bits, size = 0.0, 0
        for name in matched(self.config, model):
            books = [c for c in constraints_of(model, name) if isinstance(c, SharedCodebook)]
            if len(books) != 1:
                raise ConstraintError(f"entropy_constrained: {name!r} does not hold one codebook.")
            bits += entropy_bits(books[0].indices.cpu().numpy())
            size += books[0].indices.numel()
        if bits > self.config.bits_per_weight * size:
            raise ConstraintError(
                f"entropy_constrained: {bits / size:.3f} bits per weight, expected at most "
                f"{self.config.bits_per_weight}."
            )


def _flat(value: Tensor) -> Floats:
    return value.detach().cpu().double().numpy().ravel()
