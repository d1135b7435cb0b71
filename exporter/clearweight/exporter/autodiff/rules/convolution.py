"""VJP rules of convolution and its transpose, in any number of spatial dimensions.

A gradient to the input needs no stored copy of the weight: it is the transposed operator with the same weight,
or, at stride 1, a convolution with the weight read backwards (``flipped``). Which is faster is a question for
the cost table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from clearweight.exporter.autodiff.emit import Emit, Phases
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.phases import weave
from clearweight.exporter.autodiff.walker import Gradients


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window, one entry per spatial axis, padding made explicit."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Distance from the first to the last element of the window."""
        return tuple(d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True))


def window_of(emit: Emit, node: Node, kernel: Sequence[int]) -> Window:
    """Read the geometry of a convolution or pooling node, ``auto_pad`` resolved to numbers."""
    axes = range(2, 2 + len(kernel))
    strides = tuple(node.attributes.get("strides", [1] * len(kernel)))
    dilations = tuple(node.attributes.get("dilations", [1] * len(kernel)))
    pads = list(node.attributes.get("pads", [0] * (2 * len(kernel))))
    window = Window(tuple(kernel), strides, dilations, tuple(pads[: len(kernel)]), tuple(pads[len(kernel) :]))
    automatic = str(node.attributes.get("auto_pad", "NOTSET"))
    if not automatic.startswith("SAME"):
        return window
    sizes = emit.sizes(node.inputs[0], axes, node)
    total = [
        max((-(-size // s) - 1) * s + r + 1 - size, 0)
        for size, s, r in zip(sizes, strides, window.reach, strict=True)
    ]
    return _split(window, total, automatic)


def _split(window: Window, total: Sequence[int], automatic: str) -> Window:
    """Share out padding to both sides; the odd one goes to the side that ``auto_pad`` names."""
    small = tuple(pad // 2 for pad in total)
    large = tuple(pad - pad // 2 for pad in total)
    before, after = (large, small) if automatic == "SAME_LOWER" else (small, large)
    return Window(window.kernel, window.strides, window.dilations, before, after)


def conv_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = w * x + b;  dx = transposed convolution of dy with w,  db = sum of dy over batch and space``."""
    if node.wants(1):
        emit.unsupported(node, "the gradient to its weight is not available, only to data and bias")
    dx = _conv_data_gradient(emit, node, dy) if node.wants(0) else None
    db = _channel_sum(emit, dy) if node.wants(2) else None
    return (dx, None, db)[: len(node.inputs)]


def _conv_data_gradient(emit: Emit, node: Node, dy: str) -> str:
    x, w = node.inputs[:2]
    group = int(node.attributes.get("group", 1))
    channels_out, channels_in, *kernel = emit.sizes(w, range(emit.rank(w)), node)
    window = window_of(emit, node, kernel)
    unit = all(stride == 1 for stride in window.strides)
    if (
        unit
        and group == 1
        and dy in emit.phases
        and set(kernel) == {1}
        and not any((*window.before, *window.after))
    ):
        weight = flipped(emit, node, w, group)
        parts = tuple(emit.op("Conv", part, weight) for part in emit.phases[dy].parts)
        return weave(emit, Phases(emit.phases[dy].strides, parts))
    if not unit and emit.costs.strided_kernel(channels_out, channels_in * group, kernel, group) == "phases":
        phases = _phases(emit, node, dy, window, group)
        if phases is not None:
            whole = weave(emit, phases)
            emit.phases[whole] = phases
            return whole
    pads = [
        [reach - pad for reach, pad in zip(window.reach, side, strict=True)]
        for side in (window.before, window.after)
    ]
    if unit and min(*pads[0], *pads[1]) >= 0:
        chosen = emit.costs.convolution_kernel(channels_out, channels_in * group, window.kernel, group)
        if chosen == "flipped":
            return emit.op(
                "Conv",
                dy,
                flipped(emit, node, w, group),
                group=group,
                dilations=list(window.dilations),
                pads=[*pads[0], *pads[1]],
            )
    dx = emit.op(
        "ConvTranspose",
        dy,
        w,
        group=group,
        strides=list(window.strides),
        dilations=list(window.dilations),
        pads=[*window.before, *window.after],
        output_padding=None if unit else _output_padding(emit, node, window),
    )
    return emit.graph.narrow(dx, emit.shape(x))


def _phases(emit: Emit, node: Node, dy: str, window: Window, group: int) -> Phases | None:
    """Compute the gradient by position i modulo the stride s; None where the parts are of several sizes.

    ``y[o] = sum over k of w[k] x[s o + k - p]``, so that at ``i = s j + a`` only every s-th tap from the first
    ``k0 = (a + p) mod s`` on takes part: ``dx[i] = sum over t of w[k0 + s t] dy[j + (a + p - k0) / s - t]``.
    """
    rank = len(window.kernel)
    sizes = emit.sizes(node.inputs[0], range(2, 2 + rank), node)
    reached = emit.sizes(node.outputs[0], range(2, 2 + rank), node)
    if any(size % s for size, s in zip(sizes, window.strides, strict=True)) or max(window.dilations) > 1:
        return None
    backwards = flipped(emit, node, node.inputs[1], group)
    parts = []
    for place in product(*(range(s) for s in window.strides)):
        taps, before, after = [], [], []
        for a, s, k, p, i, o in zip(
            place, window.strides, window.kernel, window.before, sizes, reached, strict=True
        ):
            first = (a + p) % s
            count = len(range(first, k, s))
            shift = (a + p - first) // s
            taps.append((k - 1 - first - s * (count - 1), k - first))
            before.append(count - 1 - shift)
            after.append(i // s + shift - o)
        if min(first for first, _ in taps) < 0 or min(*before, *after) < 0:
            return None
        axes = list(range(2, 2 + rank))
        starts, ends = ([tap[side] for tap in taps] for side in (0, 1))
        weight = emit.slice(backwards, axes, starts, ends, list(window.strides))
        parts.append(emit.op("Conv", dy, weight, group=group, pads=[*before, *after]))
    return Phases(window.strides, tuple(parts))


def _output_padding(emit: Emit, node: Node, window: Window) -> list[int]:
    """Count the trailing rows that the strided window never reached; the transpose must give them back."""
    axes = range(2, 2 + len(window.kernel))
    size_in = emit.sizes(node.inputs[0], axes, node)
    size_out = emit.sizes(node.outputs[0], axes, node)
    return [
        i - ((o - 1) * s + r + 1 - b - a)
        for i, o, s, r, b, a in zip(
            size_in, size_out, window.strides, window.reach, window.before, window.after, strict=True
        )
    ]


def flipped(emit: Emit, node: Node, w: str, group: int) -> str:
    """Read a weight backwards: in and out channels swapped within each group, spatial axes reversed.

    ``(G O, I, k..) -> (G I, O, k..)``. Shape operators over the shared parameter, which a runtime folds when
    it loads the graph; nothing is stored twice.
    """
    out, into, *kernel = emit.sizes(w, range(emit.rank(w)), node)
    axes = list(range(2, 2 + len(kernel)))
    if group == 1:
        swapped = emit.transpose(w, [1, 0, *axes])
    else:
        grouped = emit.reshape(w, (group, out // group, into, *kernel))
        swapped = emit.transpose(grouped, [0, 2, 1, *(axis + 1 for axis in axes)])
        swapped = emit.reshape(swapped, (group * into, out // group, *kernel))
    backwards = [axis for axis, size in zip(axes, kernel, strict=True) if size > 1]
    if not backwards:
        return swapped
    count = len(backwards)
    return emit.slice(swapped, backwards, [-1] * count, [-(2**31)] * count, [-1] * count)


def _channel_sum(emit: Emit, dy: str) -> str:
    return emit.sum(dy, [0, *range(2, emit.rank(dy))], keepdims=False)


def conv_transpose_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = transpose of (w *) x + b;  dx = w * dy,  db = sum of dy over batch and space``."""
    if node.wants(1):
        emit.unsupported(node, "the gradient to its weight is not available, only to data and bias")
    dx = None
    if node.wants(0):
        window = _transposed_window(emit, node)
        dx = emit.op(
            "Conv",
            dy,
            node.inputs[1],
            group=int(node.attributes.get("group", 1)),
            strides=list(window.strides),
            dilations=list(window.dilations),
            pads=[*window.before, *window.after],
        )
        dx = emit.graph.narrow(dx, emit.shape(node.inputs[0]))
    db = _channel_sum(emit, dy) if node.wants(2) else None
    return (dx, None, db)[: len(node.inputs)]


def col2im_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = columns laid over one another as blocks of an image;  dx = the blocks of dy as columns``.

    A convolution with one kernel for each place of a block, which picks that place; channels are part of the batch.
    """
    block = np.asarray(emit.setting(node, 2), np.int64)
    image = np.asarray(emit.setting(node, 1), np.int64)
    picks = np.eye(int(block.prod())).reshape(-1, 1, *block)
    single = emit.op("Reshape", dy, emit.ints([-1, 1, *image.tolist()]))
    settings = {name: node.attributes.get(name) for name in ("strides", "dilations", "pads")}
    columns = emit.op("Conv", single, emit.number(picks, dy), **settings)
    return emit.reshape_like(columns, node.inputs[0]), None, None


def _transposed_window(emit: Emit, node: Node) -> Window:
    """Read the geometry of a ConvTranspose, whose padding may be given through its output's shape."""
    kernel = emit.sizes(node.inputs[1], range(2, emit.rank(node.inputs[1])), node)
    plain = Node(node.key, node.name, node.inputs, node.outputs, {**node.attributes, "auto_pad": "NOTSET"})
    window = window_of(emit, plain, kernel)
    automatic = str(node.attributes.get("auto_pad", "NOTSET"))
    if "output_shape" not in node.attributes and not automatic.startswith("SAME"):
        return window
    axes = range(2, 2 + len(kernel))
    size_in = emit.sizes(node.inputs[0], axes, node)
    size_out = emit.sizes(node.outputs[0], axes, node)
    extra = node.attributes.get("output_padding", [0] * len(kernel))
    total = [
        s * (i - 1) + e + r + 1 - o
        for i, o, s, e, r in zip(size_in, size_out, window.strides, extra, window.reach, strict=True)
    ]
    if min(total) < 0:
        emit.unsupported(node, "output_shape is larger than the convolution reaches")
    # ONNX gives the odd row to the end for SAME_UPPER and to the beginning otherwise.
    return _split(window, total, "SAME_UPPER" if automatic == "SAME_UPPER" else "SAME_LOWER")
