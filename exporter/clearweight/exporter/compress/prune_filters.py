"""Filter pruning: whole channels go, through residual networks, and the network that ships really lacks them.

Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017 (the norm of a filter); Molchanov et al., Importance
Estimation for Neural Network Pruning, CVPR 2019, section 3.2 (the squared first-order change of the loss when a whole
filter goes). As everywhere here the loss is the whole objective, attribution matching included.

While it trains the network keeps its shape: a dropped channel is held at zero, with its bias, in every layer that
writes it. So every module and every channel stays where the reference has it, and matching and Grad-CAM layers
correspond. `graph.shrink` takes the channels out of the graph that ships.
"""

import fnmatch
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from clearweight.exporter.compress.allocation import kept_count
from clearweight.exporter.compress.constraint import (
    Constraint,
    constraints_of,
    factored,
    free_value,
    parameter_names,
    put,
    value_of,
)
from clearweight.exporter.compress.prune import cubic_density
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.graph.channel_rules import channels
from clearweight.exporter.graph.channels import Channels
from clearweight.exporter.graph.shrink import without_effect
from clearweight.exporter.training import FineTuning, epoch_batches

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Scores = dict[int, float]


class FilterMask(Constraint):
    """Keep some indices of the first axis and hold the others at zero: the filters of a layer, or their biases."""

    kind: ClassVar = "filters"
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` with the dropped filters at zero; same shape."""
        return torch.where(self.mask.reshape(-1, *[1] * (weight.ndim - 1)), weight, 0.0)


class PruneFiltersConfig(BaseModel):
    """Settings of filter pruning; exactly one of ``keep`` and ``macs``.

    Attributes
    ----------
    keep : share of the channels to keep in every layer; or name pattern -> share (first match wins; layers tied by an
        addition are pruned together, and named by any of their weights)
    macs : share of the multiply-accumulates to keep; all channels compete
    multiple : channels go so that every layer keeps a multiple of this: convolutions of ONNX Runtime work on blocks of
        8 channels (AVX2, NEON) or 16 (AVX-512), and are slower beside them than with channels more
    criterion : what a channel is worth. ``magnitude`` is the norm of its filters over the layer's mean
    schedule : ``one_shot`` masks before fine-tuning; ``cubic`` does so step by step during it
    ramp, update_every, decay : as for `prune`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["prune_filters"] = "prune_filters"
    keep: Share | dict[str, Share] | None = None
    macs: Share | None = None
    multiple: PositiveInt = 8
    criterion: Literal["magnitude", "first_order"] = "first_order"
    schedule: Literal["one_shot", "cubic"] = "cubic"
    ramp: float = Field(default=0.6, gt=0.0, le=1.0)
    update_every: PositiveInt = 50
    decay: float = Field(default=0.99, gt=0.0, lt=1.0)
    fine_tune: FineTuning

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if (self.keep is None) == (self.macs is None):
            raise ValueError("exactly one of keep and macs is expected")
        return self


@dataclass(frozen=True, eq=False)
class Layers:
    """The channels of a network that filter pruning may choose from.

    Attributes
    ----------
    found : all channels
    families : names of the parameters that write them -> groups, each group in one family
    writers : parameter -> group of each index of its first axis
    factored : parameters that an earlier step took apart; their factors decide what they write, and it stays whole
    """

    found: Channels
    families: Mapping[tuple[str, ...], tuple[int, ...]]
    writers: Mapping[str, NDArray[np.int64]]
    factored: tuple[str, ...] = ()


def layers_of(model: nn.Module, example: Tensor) -> Layers:
    """Find the channels that vanish without a trace when all that writes them is zero.

    Parameters
    ----------
    example : inputs, only their shape matters

    Raises
    ------
    ConstraintError
        There are none, because earlier steps took the weights apart that write them.
    """
    graph = to_onnx(model, example)
    found = channels(graph)
    written: dict[str, NDArray[np.int64]] = {}
    for cut in found.slices:
        if not cut.reads and cut.axis == 0:
            written[cut.parameter] = cut.ids
    harmless = _harmless(graph, found)
    names: dict[int, list[str]] = {}
    for name, ids in written.items():
        for group in set(ids.tolist()) & harmless:
            names.setdefault(group, []).append(name)
    families: dict[tuple[str, ...], list[int]] = {}
    apart = tuple(name for name in written if factored(model, name) is not None)
    for group in sorted(names):
        if not set(names[group]) & set(apart):
            families.setdefault(tuple(names[group]), []).append(group)
    if apart and not families:
        raise ConstraintError(f"prune_filters: no layer has channels to prune.{_apart(apart)}")
    writers = {name: ids for name, ids in written.items() if name not in apart}
    return Layers(found, {key: tuple(groups) for key, groups in families.items()}, writers, apart)


def _apart(names: Sequence[str]) -> str:
    """Say which weights keep their channels because they are factors by now."""
    if not names:
        return ""
    return f" An earlier step put factors in the place of {', '.join(names)}, whose channels stay."


def _harmless(graph: onnx.ModelProto, found: Channels) -> frozenset[int]:
    """Return the groups that go without a change once everything is zero that writes a group that is not pinned."""
    own = onnx.ModelProto()
    own.CopyFrom(graph)
    pinned = np.array(sorted(found.pinned), dtype=np.int64)
    for tensor in own.graph.initializer:
        for cut in found.slices:
            if cut.parameter == tensor.name and not cut.reads:
                values = onnx.numpy_helper.to_array(tensor).copy()
                np.moveaxis(values, cut.axis, 0)[~np.isin(cut.ids, pinned)] = 0
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return without_effect(own, channels(own))  # the same walk over the same nodes numbers the groups alike


def chunks(groups: Sequence[int], scores: Scores, multiple: int) -> list[tuple[int, ...]]:
    """Cut a family, weakest channel first, into the runs that may go together: ``multiple`` channels stay at least.

    What stays after any number of runs is a multiple, too; a family of no more channels stays whole. The first run is
    what is beyond a multiple.
    """
    order = sorted(groups, key=lambda g: (scores[g], -g))
    surplus = len(order) % multiple
    starts = [0] * bool(surplus) + list(range(surplus, len(order) - multiple, multiple))
    if len(order) <= multiple:
        return []
    return [tuple(order[i : surplus if i < surplus else i + multiple]) for i in starts]


def weakest(
    families: Mapping[tuple[str, ...], tuple[int, ...]],
    scores: Scores,
    shares: Mapping[tuple[str, ...], float],
    multiple: int = 1,
) -> frozenset[int]:
    """Choose within each family: runs go until the next would leave less than its share."""
    removed: set[int] = set()
    for family, share in shares.items():
        least = kept_count(len(families[family]), share)
        left = len(families[family])
        for run in chunks(families[family], scores, multiple):
            if left - len(run) >= least:
                removed.update(run)
                left -= len(run)
    return frozenset(removed)


def weakest_by_cost(layers: Layers, scores: Scores, share: float, multiple: int = 1) -> frozenset[int]:
    """Choose among all channels: runs of the lowest mean score go until ``share`` of the operations is left.

    Raises
    ------
    ConstraintError
        Even with all runs gone more is left.
    """
    runs = [run for groups in layers.families.values() for run in chunks(groups, scores, multiple)]
    order = sorted(runs, key=lambda run: (fmean(scores[g] for g in run), -run[0]))
    whole = layers.found.multiply_accumulates()

    def removed(count: int) -> frozenset[int]:
        return frozenset(group for run in order[:count] for group in run)

    def fits(count: int) -> bool:
        return layers.found.multiply_accumulates(removed(count)) <= share * whole

    if not fits(len(order)):
        least = layers.found.multiply_accumulates(removed(len(order))) / whole
        raise ConstraintError(
            f"prune_filters: macs {share} cannot be reached; "
            f"with {multiple} channels in every layer {least:.3f} is left."
        )
    return removed(bisect_left(range(len(order) + 1), x=True, key=fits))


class FilterSaliency:
    """Running mean of ``(sum of w dL/dw over a channel)^2``: what the loss changes by, to first order, if it goes."""

    def __init__(self, model: nn.Module, layers: Layers, decay: float) -> None:
        self._free = {name: free_value(model, name) for name in layers.writers}
        self._writers = {name: torch.from_numpy(ids) for name, ids in layers.writers.items()}
        self._decay = decay
        self._mean = torch.zeros(1 + max((int(ids.max()) for ids in layers.writers.values()), default=0))

    def update(self) -> None:
        """Take the gradients of the last backward pass in."""
        change = torch.zeros_like(self._mean)
        for name, weight in self._free.items():
            if weight.grad is not None:
                rows = (weight.detach() * weight.grad).reshape(len(weight), -1).sum(1)
                change.index_add_(0, self._writers[name], rows.cpu())
        self._mean.mul_(self._decay).add_(change.square(), alpha=1.0 - self._decay)

    def values(self) -> Scores:
        """Return the score of every group."""
        return dict(enumerate(self._mean.tolist()))


def magnitudes(model: nn.Module, layers: Layers) -> Scores:
    """Return the norm of all that writes a channel, over its family's mean."""
    squares: dict[int, float] = {}
    for name, ids in layers.writers.items():
        weight = free_value(model, name).detach()
        rows = weight.square().reshape(len(weight), -1).sum(1)
        for group, value in zip(ids.tolist(), rows.tolist(), strict=True):
            squares[group] = squares.get(group, 0.0) + value
    scores: dict[int, float] = {}
    for groups in layers.families.values():
        norms = {group: squares[group] ** 0.5 for group in groups}
        mean = sum(norms.values()) / len(norms) or 1.0
        scores |= {group: norm / mean for group, norm in norms.items()}
    return scores


def shares_of(config: PruneFiltersConfig, layers: Layers) -> dict[tuple[str, ...], float]:
    """Return the share of channels to keep of each family that ``keep`` names.

    Raises
    ------
    ConstraintError
        A pattern matches no layer.
    """
    wanted = config.keep if isinstance(config.keep, dict) else {"*": config.keep or 1.0}
    shares: dict[tuple[str, ...], float] = {}
    for pattern, share in wanted.items():
        matched = [family for family in layers.families if fnmatch.filter(family, pattern)]
        if not matched:
            known = ", ".join("+".join(family) for family in layers.families)
            raise ConstraintError(
                f"prune_filters: the pattern {pattern!r} matches no layer with channels to prune. Layers: {known}."
                f"{_apart(layers.factored)}"
            )
        for family in matched:
            shares.setdefault(family, share)
    return shares


class PruneFilters:
    """Drop whole channels and fine-tune the others; channels never come back."""

    name: ClassVar = "prune_filters"
    config_type: ClassVar = PruneFiltersConfig

    def __init__(self, config: PruneFiltersConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Prune and fine-tune ``model`` in place."""
        config = self.config
        layers = layers_of(model, bench.samples.inputs[:2])
        mask_filters(model, layers, ())
        saliency = FilterSaliency(model, layers, config.decay)
        gone: frozenset[int] = frozenset()

        def update(progress: float) -> None:
            nonlocal gone
            scores = saliency.values() if config.criterion == "first_order" else magnitudes(model, layers)
            gone |= self._choose(layers, scores | dict.fromkeys(gone, -1.0), progress)
            mask_filters(model, layers, gone)

        if config.schedule == "one_shot":
            if config.criterion == "first_order":
                _observe(model, bench, saliency, config.fine_tune.batch_size)
            update(1.0)
            bench.fine_tune(model, config.fine_tune, self.name)
            return

        def on_gradients(_step: int, _steps: int) -> None:
            if config.criterion == "first_order":
                saliency.update()

        def on_step(step: int, steps: int) -> None:
            end = max(1, int(config.ramp * steps))
            if step == end or (step < end and step % config.update_every == 0):
                update(step / end)

        bench.fine_tune(model, config.fine_tune, self.name, on_gradients=on_gradients, on_step=on_step)

    def ensure(self, model: nn.Module) -> None:
        """Check that every mask's filters are exact zeros, and that some are."""
        masks = dict(filter_masks(model))
        if not masks:
            raise ConstraintError("prune_filters: no layer carries a mask of filters.")
        for name, mask in masks.items():
            if torch.count_nonzero(value_of(model, name)[~mask]):
                raise ConstraintError(f"prune_filters: dropped filters of {name!r} are not zero.")
        wanted = self.config.macs if self.config.keep is None else self.config.keep
        if wanted != 1.0 and all(bool(mask.all()) for mask in masks.values()):
            raise ConstraintError("prune_filters: nothing was pruned.")

    def _choose(self, layers: Layers, scores: Scores, progress: float) -> frozenset[int]:
        if self.config.macs is not None:
            return weakest_by_cost(
                layers, scores, cubic_density(self.config.macs, progress), self.config.multiple
            )
        shares = {f: cubic_density(s, progress) for f, s in shares_of(self.config, layers).items()}
        return weakest(layers.families, scores, shares, self.config.multiple)


def filter_masks(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters with a mask of filters, and the mask."""
    for name in parameter_names(model):
        for constraint in constraints_of(model, name):
            if isinstance(constraint, FilterMask):
                yield name, constraint.mask


def mask_filters(model: nn.Module, layers: Layers, gone: Iterable[int]) -> None:
    """Hold groups of channels at zero in every parameter that writes them; the others are free."""
    dropped = np.array(sorted(gone), dtype=np.int64)
    held = dict(filter_masks(model))
    for name, ids in layers.writers.items():
        mask = torch.from_numpy(~np.isin(ids, dropped)).to(value_of(model, name).device)
        if name in held:
            held[name].copy_(mask)
        else:
            put(model, name, FilterMask(mask))


def _observe(model: nn.Module, bench: Workbench, saliency: FilterSaliency, batch_size: int) -> None:
    """Collect saliencies over one epoch without moving a weight."""
    loss, draws = bench.loss(model), torch.Generator().manual_seed(bench.runtime.seed)
    for index in epoch_batches(len(bench.samples), batch_size, draws, 0, 1):
        model.zero_grad()
        loss(model, bench.samples.inputs[index], bench.samples.labels[index], draws).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        saliency.update()
    model.zero_grad()
