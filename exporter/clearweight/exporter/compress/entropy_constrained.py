"""Entropy-constrained quantization: few shared values, chosen so that the distortion *and* the code are short.

Chou, Lookabaugh, Gray, Entropy-Constrained Vector Quantization, IEEE Trans. ASSP 1989, in one dimension, with the
weighted distortion of Gao et al., Rate Distortion for Model Compression, ICML 2019. Zero is one of the symbols, so that
places are paid for as well and quantization goes on pruning; one multiplier serves all tensors, which shares the bits
among them at equal slope. In stages, the weights that are quantized first let the others make up for their error (Zhou,
Yao, Guo, Xu, Chen, Incremental Network Quantization, ICLR 2017).
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
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
    mask_of,
    parameter_names,
    put_codebook,
    value_of,
)
from clearweight.exporter.compress.rate_quantizer import (
    Floats,
    Quantized,
    entropy_bits,
    even_out,
    quantize_to_rate,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.compress.straight_through import StraightThrough
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.importance import Statistic
from clearweight.exporter.training import FineTuning

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


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
    evened : share of each weight's importance that is its tensor's mean instead: what one weight does to a few samples
        says little in a deep network, what a layer does says much. As with `FineTuning.precision`, 0 goes unsaid
    stages : rising shares of each tensor's survivors, the largest first, that stay at their quantized value while the
        others train on; quantized as zero counts as done at once. Empty quantizes all at the same time
    stage_tune : how each stage trains
    straight_through : trains all weights while they are quantized: the network computes with quantized values, whose
        gradients move free ones, and each free value takes the symbol that is cheapest for it after every step
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
    evened: float = Field(default=0.0, ge=0.0, le=1.0, exclude_if=lambda value: value == 0.0)
    stages: tuple[Share, ...] = ()
    stage_tune: FineTuning | None = None
    straight_through: FineTuning | None = Field(default=None, exclude_if=lambda value: value is None)
    fine_tune: FineTuning | None = None

    @model_validator(mode="after")
    def _stages_train(self) -> "EntropyConstrainedConfig":
        if bool(self.stages) != (self.stage_tune is not None):
            raise ValueError("stages and stage_tune belong together")
        if list(self.stages) != sorted(self.stages):
            raise ValueError(f"stages must rise, found {list(self.stages)}")
        return self


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
        found, multiplier, importances = self._quantized(model, bench)
        if config.straight_through is not None:
            free = {name: free_value(model, name) for name in found}
            masks = {name: mask_of(model, name) for name in found}
            held = StraightThrough(free, masks, found, importances, multiplier, config.bits_per_weight)
            bench.fine_tune(
                model, config.straight_through, f"{self.name} (straight through)", on_step=held.step
            )
            found = held.quantized()
        for name, quantized in found.items():
            value = value_of(model, name)
            values = quantized.codebook[1:] if len(quantized.codebook) > 1 else np.zeros(1)
            centroids = torch.from_numpy(values).to(value)
            put_codebook(
                model, name, centroids, torch.from_numpy(quantized.indices).view(value.shape).to(value.device)
            )
        if config.fine_tune is not None:
            bench.fine_tune(model, config.fine_tune, self.name)

    def _quantized(
        self, model: nn.Module, bench: Workbench
    ) -> tuple[dict[str, Quantized], float, dict[str, Floats]]:
        config = self.config
        weights = {n: _flat(value_of(model, n)) for n in matched(config, model)}
        importances = self._importances(model, bench, weights)
        return *quantize_to_rate(weights, importances, config.symbols, config.bits_per_weight), importances

    def _stage(self, model: nn.Module, bench: Workbench, share: float) -> None:
        """Quantize, hold the zeros and the largest ``share`` of the survivors, and let the others train."""
        held: list[tuple[Tensor, Tensor, Tensor]] = []
        config = self.config
        found, *_ = self._quantized(model, bench)
        for name, quantized in found.items():
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
        if config.stage_tune is not None:
            bench.fine_tune(model, config.stage_tune, f"{self.name} ({share:.0%})", on_step=hold)

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
        whole = {
            name: np.sum([share * _flat(known[kind][name]) for kind, share in wanted.items()], axis=0)
            for name in weights
        }
        return {name: even_out(found, config.evened) for name, found in whole.items()}

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
