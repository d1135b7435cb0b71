"""VJP rules of operators that cut values apart or join them."""

from dataclasses import dataclass

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def concat_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x_1, x_2, ... joined along an axis;  dx_i = the part of dy where x_i lies``."""
    axis = int(node.attributes["axis"]) % emit.rank(dy)
    gradients: list[str | None] = []
    offset = 0
    for index, name in enumerate(node.inputs):
        (size,) = emit.sizes(name, [axis], node)
        part = emit.slice(dy, [axis], [offset], [offset + size], [1]) if node.wants(index) else None
        gradients.append(part)
        offset += size
    return tuple(gradients)


def split_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y_1, y_2, ... = x cut along an axis;  dx = dy_1, dy_2, ... joined``, zero where nothing arrives."""
    del dy
    parts = [
        emit.zeros_like(name) if cotangent is None else cotangent
        for name, cotangent in zip(node.outputs, node.cotangents, strict=True)
    ]
    joined = emit.op("Concat", *parts, axis=int(node.attributes.get("axis", 0)))
    return (emit.graph.narrow(joined, emit.shape(node.inputs[0])), *(None for _ in node.inputs[1:]))


@dataclass(frozen=True)
class Cut:
    """What a Slice takes along one axis: ``count`` elements from ``first`` upwards, ``stride`` apart."""

    axis: int
    size: int
    first: int
    stride: int
    count: int
    backwards: bool


def slice_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x[start:end:step];  dx = dy put back where it came from, zero elsewhere``.

    A step above 1 is undone by a row of zeros behind each element, which a reshape makes part of the axis.
    """
    x = node.inputs[0]
    rank = emit.rank(x)
    none = tuple(None for _ in node.inputs[1:])
    before, after = [0] * rank, [0] * rank
    cuts: list[Cut] = []
    for axis, start, end, step in _slices(emit, node):
        size = emit.shape(x)[axis]
        if isinstance(size, int):
            cuts.append(_cut(axis, size, start, end, step))
        elif step == 1 and start >= 0 and (end < 0 or end >= np.iinfo(np.int32).max):
            # An axis of open size: what was cut off at either end is known all the same.
            before[axis], after[axis] = start, max(-end, 0)
        else:
            emit.unsupported(node, f"axis {axis} has the open size {size!r} and is cut at a fixed place")
    if any(cut.count == 0 for cut in cuts):
        emit.unsupported(node, "it selects nothing")
    backwards = [cut.axis for cut in cuts if cut.backwards]
    if backwards:
        count = len(backwards)
        dy = emit.slice(dy, backwards, [-1] * count, [-(2**31)] * count, [-1] * count)
    for cut in cuts:
        dy = _interleave_zeros(emit, dy, cut)
        spread = cut.first + cut.count * cut.stride
        before[cut.axis], after[cut.axis] = cut.first, max(cut.size - spread, 0)
        if spread > cut.size:  # zeros behind the last element that the axis has no room for
            dy = emit.slice(dy, [cut.axis], [0], [cut.size - cut.first], [1])
    return (emit.graph.narrow(emit.pad(dy, before, after), emit.shape(x)), *none)


def _slices(emit: Emit, node: Node) -> list[tuple[int, int, int, int]]:
    """Read (axis, start, end, step) of a Slice."""
    starts, ends, axes, steps = (emit.setting(node, index) for index in range(1, 5))
    if starts is None or ends is None:
        emit.unsupported(node, "starts or ends are missing")
    count = starts.size
    axes = np.arange(count) if axes is None else axes
    steps = np.ones(count, np.int64) if steps is None else steps
    rank = emit.rank(node.inputs[0])
    rows = zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True)
    return [(axis % rank, start, end, step) for axis, start, end, step in rows]


def _cut(axis: int, size: int, start: int, end: int, step: int) -> Cut:
    taken = range(size)[start:end:step]
    first = min(taken, default=0)
    return Cut(axis, size, first, abs(step), len(taken), step < 0)


def _interleave_zeros(emit: Emit, dy: str, cut: Cut) -> str:
    """Put ``stride - 1`` zeros behind each element along an axis.

    Along the last axis by an outer product with (1, 0, ...), which is several times faster than padding
    single elements.
    """
    if cut.stride == 1:
        return dy
    shape = emit.shape(dy)
    spread = (*shape[: cut.axis], cut.count * cut.stride, *shape[cut.axis + 1 :])
    if cut.axis == len(shape) - 1:
        row = emit.number([[1.0] + [0.0] * (cut.stride - 1)], dy)
        apart = emit.op("MatMul", emit.op("Reshape", dy, emit.ints([-1, 1])), row)
    else:
        split = emit.reshape(dy, (*shape[: cut.axis + 1], 1, *shape[cut.axis + 1 :]))
        behind = [0] * (len(shape) + 1)
        behind[cut.axis + 1] = cut.stride - 1
        apart = emit.pad(split, [0] * len(behind), behind)
    return emit.reshape(apart, spread)
