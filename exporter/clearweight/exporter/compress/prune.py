"""Pruning: drop the weights whose loss costs least, at once or gradually, and fine-tune the survivors.

Han et al., Learning both Weights and Connections, NeurIPS 2015 (magnitude); Molchanov et al., Importance Estimation
for Neural Network Pruning, CVPR 2019, eq. 8 (first order); Zhu and Gupta, To prune or not to prune, 2017, eq. 1
(cubic schedule). The first-order saliency is taken of the *whole* objective: a weight that carries the explanation
is kept although the task would not miss it.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from clearweight.exporter.compress.constraint import (
    free_value,
    mask_of,
    parameter_names,
    put_mask,
    value_of,
)
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning

Density = Annotated[float, Field(gt=0.0, le=1.0)]


class PruneConfig(BaseModel):
    """Settings of pruning.

    Attributes
    ----------
    density : share of weights to keep; one number for all, or name pattern -> share (first match wins; a weight
        that no pattern matches stays dense). With ``scope: global`` one number, shared by all matched weights.
    criterion : what a weight is worth
    schedule : ``one_shot`` masks before fine-tuning; ``cubic`` lowers the density during it
    ramp : share of the fine-tuning steps over which the cubic schedule reaches the final density
    update_every : steps between two mask updates
    decay : of the running mean of the first-order saliency
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["prune"] = "prune"
    density: Density | dict[str, Density]
    criterion: Literal["magnitude", "first_order"] = "magnitude"
    schedule: Literal["one_shot", "cubic"] = "cubic"
    scope: Literal["layer", "global"] = "layer"
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


def kept_count(size: int, density: float) -> int:
    """Return how many of ``size`` weights a density keeps: rounded to nearest, at least one."""
    return max(1, round(size * density))


def top_mask(saliency: Tensor, keep: int) -> Tensor:
    """Keep the ``keep`` most salient entries; ties fall to the lower index, so the mask is the same on every run.

    Parameters
    ----------
    saliency : any shape, larger is more worth keeping

    Returns
    -------
    bool, same shape; exactly ``keep`` entries are True
    """
    order = torch.sort(saliency.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(saliency.numel(), dtype=torch.bool, device=saliency.device)
    mask[order[:keep]] = True
    return mask.view_as(saliency)


def layer_masks(saliencies: Mapping[str, Tensor], densities: Mapping[str, float]) -> dict[str, Tensor]:
    """Prune each tensor to its own density."""
    return {name: top_mask(s, kept_count(s.numel(), densities[name])) for name, s in saliencies.items()}


def global_masks(saliencies: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    """Prune all tensors together to one density; every tensor keeps at least its most salient weight."""
    names = list(saliencies)
    flat = torch.cat([saliencies[name].flatten() for name in names])
    kept = top_mask(flat, kept_count(flat.numel(), density))
    parts = torch.split(kept, [saliencies[name].numel() for name in names])
    masks = {name: part.view_as(saliencies[name]).clone() for name, part in zip(names, parts, strict=True)}
    return {name: mask if mask.any() else top_mask(saliencies[name], 1) for name, mask in masks.items()}


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


class FirstOrderSaliency:
    """Running mean of ``(w dL/dw)^2``, the squared first-order change of the loss when the weight is dropped."""

    def __init__(self, model: nn.Module, names: list[str], decay: float) -> None:
        self._free = {name: free_value(model, name) for name in names}
        self._decay = decay
        self._mean: dict[str, Tensor] = {}

    def update(self) -> None:
        """Take the gradients of the last backward pass in."""
        for name, weight in self._free.items():
            if weight.grad is None:
                continue
            now = (weight.detach() * weight.grad).square()
            mean = self._mean.setdefault(name, torch.zeros_like(now))
            mean.mul_(self._decay).add_(now, alpha=1.0 - self._decay)

    def values(self) -> dict[str, Tensor]:
        """Return the saliency of every weight; names without a gradient yet score zero."""
        return {name: self._mean.get(name, torch.zeros_like(w.detach())) for name, w in self._free.items()}


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
        first_order = FirstOrderSaliency(model, names, config.decay)

        def update(progress: float) -> None:
            saliency = self._saliency(model, names, first_order)
            wanted = {n: cubic_density(d, progress) for n, d in densities.items()}
            masks = self._masks(saliency, wanted)
            for name in names:
                put_mask(model, name, masks[name])

        if config.schedule == "one_shot":
            if config.criterion == "first_order":
                self._observe(model, bench, first_order)
            update(1.0)
            bench.fine_tune(model, config.fine_tune, self.name)
            return

        def on_gradients(_step: int, _steps: int) -> None:
            if config.criterion == "first_order":
                first_order.update()

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
        if self.config.scope == "global":
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
        self, model: nn.Module, names: list[str], first_order: FirstOrderSaliency
    ) -> dict[str, Tensor]:
        """Score every weight; a weight dropped before scores below all others, so that masks only shrink."""
        if self.config.criterion == "magnitude":
            scores = {name: free_value(model, name).detach().abs() for name in names}
        else:
            scores = first_order.values()
        dropped = {name: mask_of(model, name) for name in names}
        return {
            name: s if (m := dropped[name]) is None else s.masked_fill(~m, -1.0) for name, s in scores.items()
        }

    def _masks(self, saliency: dict[str, Tensor], densities: dict[str, float]) -> dict[str, Tensor]:
        if self.config.scope == "global":
            return global_masks(saliency, next(iter(densities.values())))
        return layer_masks(saliency, densities)

    def _observe(self, model: nn.Module, bench: Workbench, first_order: FirstOrderSaliency) -> None:
        """Collect first-order saliencies over one epoch without moving a weight."""
        frozen = self.config.fine_tune.model_copy(
            update={"epochs": 1, "learning_rate": 1e-30, "optimizer": "sgd", "weight_decay": 0.0}
        )
        bench.fine_tune(
            model, frozen, f"{self.name} (saliency)", on_gradients=lambda _step, _steps: first_order.update()
        )
