"""Pruning: drop the weights whose loss costs least, at once or gradually, and fine-tune the survivors.

Han et al., Learning both Weights and Connections, NeurIPS 2015 (magnitude); Molchanov et al., Importance Estimation
for Neural Network Pruning, CVPR 2019, eq. 8 (first order); Gao et al., Rate Distortion for Model Compression, ICML 2019
(Fisher, gradient, gradient and Hessian); Zhu and Gupta, To prune or not to prune, 2017, eq. 1 (cubic schedule). The
first-order saliency is taken of the *whole* objective, and the attribution criteria of the map itself: a weight that
carries the explanation is kept although the task would not miss it.
"""

import fnmatch
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from clearweight.exporter.compress.allocation import global_masks, kept_count, layer_masks, rate_masks
from clearweight.exporter.compress.constraint import mask_of, parameter_names, put_mask, value_of
from clearweight.exporter.compress.saliency import RULES, Criterion, FirstOrderSaliency, SecondOrderSaliency
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning

Density = Annotated[float, Field(gt=0.0, le=1.0)]


class PruneConfig(BaseModel):
    """Settings of pruning.

    Attributes
    ----------
    density : share of weights to keep; one number for all, or name pattern -> share (first match wins; a weight
        that no pattern matches stays dense). With ``scope: global`` or ``rate`` one number, shared by all matched
        weights.
    criterion : what a weight is worth (see `saliency`)
    attribution_share : of the map's distortion beside the answer's, in ``output_and_attribution``
    statistic_samples : how many fitting samples the second-order criteria are measured on, each time
    measure_every : mask updates between two such measurements
    scope : budget of each tensor by itself; one threshold for all; or one threshold on distortion per bit
    schedule : ``one_shot`` masks before fine-tuning; ``cubic`` lowers the density during it
    ramp : share of the fine-tuning steps over which the cubic schedule reaches the final density
    update_every : steps between two mask updates
    decay : of the running mean of the first-order saliency
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["prune"] = "prune"
    density: Density | dict[str, Density]
    criterion: Criterion = "magnitude"
    attribution_share: NonNegativeFloat = 1.0
    statistic_samples: PositiveInt = 500
    measure_every: PositiveInt = 10
    schedule: Literal["one_shot", "cubic"] = "cubic"
    scope: Literal["layer", "global", "rate"] = "layer"
    ramp: float = Field(default=0.6, gt=0.0, le=1.0)
    update_every: PositiveInt = 50
    decay: float = Field(default=0.99, gt=0.0, lt=1.0)
    fine_tune: FineTuning


def cubic_density(final: float, progress: float) -> float:
    """Density at ``progress`` in [0, 1] of the ramp: ``final + (1 - final) (1 - progress)^3``.

    >>> cubic_density(0.1, 0.0), cubic_density(0.1, 1.0)
    (1.0, 0.1)
    """
    return final + (1.0 - final) * (1.0 - min(progress, 1.0)) ** 3


def unmasked(model: nn.Module, saliency: dict[str, Tensor]) -> dict[str, Tensor]:
    """Score every weight that was dropped before below all others, so that masks only shrink."""
    masks = {name: mask_of(model, name) for name in saliency}
    return {
        name: s if (mask := masks[name]) is None else s.masked_fill(~mask, -1.0)
        for name, s in saliency.items()
    }


def densities_of(config: PruneConfig, model: nn.Module) -> dict[str, float]:
    """Return the final density of each weight that ``config`` prunes; biases and other vectors stay dense.

    Raises
    ------
    ConstraintError
        A pattern matches no weight.
    """
    weights = [name for name in parameter_names(model) if value_of(model, name).ndim > 1]
    wanted = config.density if isinstance(config.density, dict) else {"*": config.density}
    result: dict[str, float] = {}
    for pattern, density in wanted.items():
        matched = [name for name in weights if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise ConstraintError(
                f"prune: the pattern {pattern!r} matches no weight. Weights: {', '.join(weights)}."
            )
        for name in matched:
            result.setdefault(name, density)
    return result


class Prune:
    """Put a mask on weights and fine-tune the survivors; masks only shrink."""

    name: ClassVar = "prune"
    config_type: ClassVar = PruneConfig

    def __init__(self, config: PruneConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Prune and fine-tune ``model`` in place."""
        config = self.config
        densities = densities_of(config, model)
        names = list(densities)
        for name in names:
            put_mask(model, name, torch.ones_like(value_of(model, name), dtype=torch.bool))
        saliency = self._saliency(model, names, bench)
        updates = 0

        def update(progress: float) -> None:
            nonlocal updates
            if isinstance(saliency, SecondOrderSaliency) and updates % config.measure_every == 0:
                saliency.measure()
            updates += 1
            wanted = {n: cubic_density(d, progress) for n, d in densities.items()}
            masks = self._masks(unmasked(model, saliency.values()), wanted)
            for name in names:
                put_mask(model, name, masks[name])

        def on_gradients(_step: int, _steps: int) -> None:
            if isinstance(saliency, FirstOrderSaliency):
                saliency.update()

        if config.schedule == "one_shot":
            if isinstance(saliency, FirstOrderSaliency):
                self._observe(model, bench, saliency)
            update(1.0)
            bench.fine_tune(model, config.fine_tune, self.name)
            return

        def on_step(step: int, steps: int) -> None:
            end = max(1, int(config.ramp * steps))
            if step == end or (step < end and step % config.update_every == 0):
                update(step / end)

        bench.fine_tune(model, config.fine_tune, self.name, on_gradients=on_gradients, on_step=on_step)

    def ensure(self, model: nn.Module) -> None:
        """Check that no tensor keeps more than its density allows."""
        densities = densities_of(self.config, model)
        masks = {name: mask_of(model, name) for name in densities}
        kept = {name: int(mask.sum()) for name, mask in masks.items() if mask is not None}
        if len(kept) < len(densities):
            raise ConstraintError(f"prune: {set(densities) - set(kept)} carry no mask.")
        if self.config.scope != "layer":
            size = sum(value_of(model, name).numel() for name in densities)
            allowed = kept_count(size, next(iter(densities.values()))) + len(densities)
            if sum(kept.values()) > allowed:
                raise ConstraintError(f"prune: {sum(kept.values())} weights are left, expected {allowed}.")
            return
        for name, density in densities.items():
            allowed = kept_count(value_of(model, name).numel(), density)
            if kept[name] > allowed:
                raise ConstraintError(
                    f"prune: {name!r} keeps {kept[name]} weights, expected at most {allowed}."
                )

    def _saliency(
        self, model: nn.Module, names: list[str], bench: Workbench
    ) -> FirstOrderSaliency | SecondOrderSaliency:
        config = self.config
        if config.criterion == "first_order":
            return FirstOrderSaliency(model, names, config.decay)
        rule, share = RULES[config.criterion], config.attribution_share
        return SecondOrderSaliency(model, names, rule, share, count=config.statistic_samples, bench=bench)

    def _masks(self, saliency: dict[str, Tensor], densities: dict[str, float]) -> dict[str, Tensor]:
        if self.config.scope == "layer":
            return layer_masks(saliency, densities)
        together = global_masks if self.config.scope == "global" else rate_masks
        return together(saliency, next(iter(densities.values())))

    def _observe(self, model: nn.Module, bench: Workbench, first_order: FirstOrderSaliency) -> None:
        """Collect first-order saliencies over one epoch without moving a weight."""
        frozen = self.config.fine_tune.model_copy(
            update={"epochs": 1, "learning_rate": 1e-30, "optimizer": "sgd", "weight_decay": 0.0}
        )
        bench.fine_tune(
            model, frozen, f"{self.name} (saliency)", on_gradients=lambda _step, _steps: first_order.update()
        )
