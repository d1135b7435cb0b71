"""Which part of the input one place of a feature map can see.

Each operator on the way maps an interval of places of its output to one of its input: a window of a convolution or
pooling at its stride, a shift by a border, a step of a slice. They compose to ``start + stride p .. end + stride p``
for place p of the layer. Where several ways lead to the layer the widest interval counts; behind an operator that
mixes all places (a dense layer, a mean over space, interpolation) it is the whole input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clearweight.exporter.autodiff import Emit, Node
from clearweight.exporter.autodiff.rules.convolution import window_of
from clearweight.exporter.explain.between import nodes_between
from clearweight.exporter.explain.rectifier import RECTIFIERS

Interval = tuple[int, int, int]
"""stride, first and last place of the input that place 0 sees."""

_POINTWISE = RECTIFIERS | {
    "Abs",
    "Add",
    "BatchNormalization",
    "Cast",
    "Concat",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Erf",
    "Exp",
    "HardSigmoid",
    "Identity",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "QuantizeLinear",
    "Reciprocal",
    "Sigmoid",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
}


@dataclass(frozen=True)
class ReceptiveField:
    """How places of a layer see the input; ``axes`` has one interval per spatial axis, None for all of it."""

    axes: tuple[Interval | None, ...]
    sizes: tuple[int, ...]

    def at(self, place: Sequence[int]) -> tuple[slice, ...]:
        """Return what one place sees, cut at the input's borders."""
        found = []
        for interval, size, p in zip(self.axes, self.sizes, place, strict=True):
            stride, first, last = (0, 0, size - 1) if interval is None else interval
            found.append(slice(max(0, first + stride * p), min(size, last + stride * p + 1)))
        return tuple(found)


def receptive_field(emit: Emit, x: str, layer: str) -> ReceptiveField:
    """Return how a layer [N, K, space...] sees the input [N, C, space...] of as many axes; all of it, if of others."""
    sizes = tuple(emit.sizes(x, range(2, emit.rank(x)), "a receptive field"))
    whole: tuple[Interval | None, ...] = (None,) * len(sizes)
    if emit.rank(layer) != emit.rank(x):
        return ReceptiveField(whole, sizes)
    seen: dict[str, tuple[Interval | None, ...]] = {layer: ((1, 0, 0),) * len(sizes)}
    for entry in reversed(nodes_between(emit, x, layer)):
        after = next((seen[name] for name in entry.node.outputs if name in seen), None)
        if after is None:
            continue
        own = _intervals(emit, entry.node, len(sizes))
        before = tuple(_composed(outer, inner) for outer, inner in zip(after, own, strict=True))
        for name, active in zip(entry.node.inputs, entry.active, strict=True):
            if active:
                seen[name] = _joined(seen[name], before) if name in seen else before
    return ReceptiveField(seen.get(x, whole), sizes)


def _intervals(emit: Emit, node: Node, axes: int) -> tuple[Interval | None, ...]:
    """Return what place 0 of a node's output sees of its input, per spatial axis."""
    kind = node.key.op_type
    whole: tuple[Interval | None, ...] = (None,) * axes
    ranks = {len(emit.graph.type(name).shape or ()) for name in (node.inputs[0], *node.outputs[:1])}
    if kind in _POINTWISE and not (kind == "Concat" and int(node.attributes["axis"]) not in {1, -axes - 1}):
        return ((1, 0, 0),) * axes if max(ranks) == axes + 2 else whole
    if ranks != {axes + 2}:
        return whole
    if kind in {"Conv", "MaxPool", "AveragePool"}:
        kernel = (
            emit.sizes(node.inputs[1], range(2, axes + 2), node)
            if kind == "Conv"
            else list(node.attributes["kernel_shape"])
        )
        window = window_of(emit, node, kernel)
        return tuple(
            (stride, -before, reach - before)
            for stride, before, reach in zip(window.strides, window.before, window.reach, strict=True)
        )
    if kind == "Pad" and str(node.attributes.get("mode", "constant")) == "constant":
        return _padded(emit, node, axes)
    if kind == "Slice":
        return _sliced(emit, node, axes)
    return whole


def _padded(emit: Emit, node: Node, axes: int) -> tuple[Interval | None, ...]:
    pads, given = emit.setting(node, 1), emit.setting(node, 3)
    if pads is None:
        return (None,) * axes
    rank = axes + 2
    listed = range(rank) if given is None else [int(axis) % rank for axis in given]
    before = dict(zip(listed, pads.tolist(), strict=False))
    return tuple((1, -before.get(axis, 0), -before.get(axis, 0)) for axis in range(2, rank))


def _sliced(emit: Emit, node: Node, axes: int) -> tuple[Interval | None, ...]:
    starts, ends, given, steps = (emit.setting(node, index) for index in range(1, 5))
    if starts is None or ends is None:
        return (None,) * axes
    rank = axes + 2
    listed = range(len(starts)) if given is None else [int(axis) % rank for axis in given]
    cuts = dict(
        zip(
            listed,
            zip(starts, ends, np.ones_like(starts) if steps is None else steps, strict=True),
            strict=True,
        )
    )
    found: list[Interval | None] = []
    for axis in range(2, rank):
        size = emit.shape(node.inputs[0])[axis]
        if axis not in cuts:
            found.append((1, 0, 0))
        elif isinstance(size, int):
            start, end, step = (int(value) for value in cuts[axis])
            places = range(size)[start:end:step]
            found.append((step, places[0], places[0]) if places and step > 0 else None)
        else:
            found.append(None)
    return tuple(found)


def _composed(outer: Interval | None, inner: Interval | None) -> Interval | None:
    if outer is None or inner is None:
        return None
    (outer_stride, outer_first, outer_last), (stride, first, last) = outer, inner
    return outer_stride * stride, outer_first * stride + first, outer_last * stride + last


def _joined(
    one: tuple[Interval | None, ...], other: tuple[Interval | None, ...]
) -> tuple[Interval | None, ...]:
    """Return what sees both; two strides see no common interval."""
    return tuple(
        None if a is None or b is None or a[0] != b[0] else (a[0], min(a[1], b[1]), max(a[2], b[2]))
        for a, b in zip(one, other, strict=True)
    )
