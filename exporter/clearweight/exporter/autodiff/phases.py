"""Gradients taken apart by position modulo a stride, so that what follows a strided convolution runs on small maps.

The gradient of a convolution with stride s is s x s convolutions at stride 1, one for each position modulo s, over the
gradient as it arrives. A mask or a pointwise convolution behind it works on each of these phases by itself; only what
comes out in the end is woven together, and by then it has few channels.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from clearweight.exporter.autodiff.cost import keeps_blocks
from clearweight.exporter.autodiff.emit import Emit, Phases


def weave(emit: Emit, phases: Phases) -> str:
    """Put phases [N, C, h, w] together to [N, C, s h, t w].

    One axis at a time, the last one first: a transpose that moves one axis is several times faster than one of many, or
    DepthToSpace.
    """
    batch = emit.shape(phases.parts[0])[0]
    depth, *lengths = emit.sizes(phases.parts[0], range(1, 2 + len(phases.strides)), "phases")
    value = emit.op("Concat", *phases.parts, axis=1) if len(phases.parts) > 1 else phases.parts[0]
    for axis in reversed(range(len(lengths))):
        outer, stride = prod(phases.strides[:axis]), phases.strides[axis]
        own, inner = depth * prod(lengths[: axis + 1]), prod(lengths[axis + 1 :])
        apart = [outer, stride, own, inner]
        order = [0, 2, 1, 3]
        kept = [at for at in range(4) if apart[at] > 1 or at in {1, 2}]
        ranks = {at: 1 + rank for rank, at in enumerate(kept)}
        split = emit.reshape(value, (batch, *(apart[at] for at in kept)))
        value = emit.op("Transpose", split, perm=[0, *(ranks[at] for at in order if at in ranks)])
        lengths[axis] *= stride
    return emit.reshape(value, (batch, depth, *lengths))


def gate(emit: Emit, dy: str, kind: str, y: str, slope: float, offset: float) -> str:
    """Return ``dy max(0, min(1, slope y + offset))``; steep, it passes dy where y is on one side of a bound.

    Where dy is known by phase and y stays in the blocked layout of convolutions, each phase is masked by itself.
    """
    whole = emit.op("Mul", dy, emit.ramp(kind, y, slope, offset))
    phases = emit.phases.get(dy)
    if phases is not None and keeps_blocks(emit.shape(y)) and emit.graph.type(y).dtype == np.float32:
        masked = (
            emit.op("Mul", part, emit.scaled_ramp(own, slope, offset))
            for part, own in zip(phases.parts, _taken_apart(emit, y, phases.strides), strict=True)
        )
        emit.phases[whole] = Phases(phases.strides, tuple(masked))
    return whole


def _taken_apart(emit: Emit, y: str, strides: Sequence[int]) -> list[str]:
    """Return the phases of a value, each by a depthwise convolution with a single one in its kernel."""
    batch, channels, *_ = emit.shape(y)
    (depth, *sizes) = emit.sizes(y, range(1, emit.rank(y)), "phases")
    parts = []
    for place in product(*(range(stride) for stride in strides)):
        kernel = np.zeros([1, 1, *(at + 1 for at in place)])
        kernel[..., -1:, -1:] = 1
        weight = emit.op("Expand", emit.number(kernel, y), emit.ints([depth, *kernel.shape[1:]]))
        # Padding that no window reads: by it a runtime sees that sizes are divided by the stride, and keeps its layout.
        pads = [*(0 for _ in place), *place]
        part = emit.op("Conv", y, weight, group=depth, strides=list(strides), pads=pads)
        parts.append(
            emit.graph.narrow(part, (batch, channels, *(n // s for n, s in zip(sizes, strides, strict=True))))
        )
    return parts
