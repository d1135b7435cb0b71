"""VJP rules of pooling over sliding windows."""

import numpy as np
import onnx

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.rules.convolution import Window, window_of
from clearweight.exporter.autodiff.walker import Gradients


def max_pool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max of x over each window;  dx = dy where the first maximum of the window lies``."""
    if "kernel_shape" not in node.attributes:
        emit.unsupported(node, "kernel_shape is missing")
    kernel = tuple(node.attributes["kernel_shape"])
    window = window_of(emit, node, kernel)
    chosen = "scatter"
    if _tiles(emit, node, window):
        chosen = emit.costs.pooling_kernel(
            emit.sizes(node.inputs[0], range(1, emit.rank(node.inputs[0])), node)
        )
    if chosen == "match":
        return (_first_match(emit, node, dy, window),)
    if chosen == "unpool":
        return (_unpool(emit, node, dy, window),)
    return (_scatter(emit, node, dy),)


def _tiles(emit: Emit, node: Node, window: Window) -> bool:
    """Tell whether the windows cover the input exactly once."""
    axes = range(2, 2 + len(window.kernel))
    sizes = [emit.shape(node.inputs[0])[axis] for axis in axes]
    return (
        window.kernel == window.strides
        and not any((*window.before, *window.after))
        and all(dilation == 1 for dilation in window.dilations)
        and all(isinstance(size, int) and size % k == 0 for size, k in zip(sizes, window.kernel, strict=True))
    )


def _indices(emit: Emit, node: Node) -> str:
    """Return where in the flattened input each maximum lies."""
    if int(node.attributes.get("storage_order", 0)):
        emit.unsupported(node, "storage_order is 1")
    return emit.output(node, 1)


def _unpool(emit: Emit, node: Node, dy: str, window: Window) -> str:
    unpooled = emit.op(
        "MaxUnpool", dy, _indices(emit, node), kernel_shape=list(window.kernel), strides=list(window.strides)
    )
    return emit.graph.narrow(unpooled, emit.shape(node.inputs[0]))


def _scatter(emit: Emit, node: Node, dy: str) -> str:
    """Add each element where its maximum lay; overlapping windows may share it."""
    x = node.inputs[0]
    size = emit.op("ReduceProd", emit.shape_of(x), keepdims=1)
    zero = onnx.numpy_helper.from_array(np.zeros(1, emit.graph.type(x).dtype))
    zeros = emit.op("ConstantOfShape", size, value=zero)
    flat = emit.ints([-1])
    places = emit.op("Reshape", _indices(emit, node), flat)
    placed = emit.op("ScatterElements", zeros, places, emit.op("Reshape", dy, flat), axis=0, reduction="add")
    return emit.reshape_like(placed, x)


def _first_match(emit: Emit, node: Node, dy: str, window: Window) -> str:
    """Hand each element to the first cell of its window that equals the maximum, without MaxPool's Indices.

    Every cell that equals its window's maximum bids with its place, the first one highest; the highest bid of the
    window takes the element. All in the plain layout on whole maps, where a runtime is fastest.
    """
    x, y = node.inputs[0], node.outputs[0]
    sizes = emit.sizes(x, range(2, emit.rank(x)), node)
    places = np.arange(np.prod(window.kernel), 0, -1).reshape(window.kernel)
    counts = [size // k for size, k in zip(sizes, window.kernel, strict=True)]
    bids = emit.op(
        "Tile", emit.number(places, x), emit.ints(counts)
    )  # a runtime folds it; the file stays small
    equal = emit.equal(x, _repeat(emit, y, x, window))
    bid = emit.op("Mul", equal, bids)
    highest = emit.op("MaxPool", bid, kernel_shape=list(window.kernel), strides=list(window.strides))
    wins = emit.equal(bid, _repeat(emit, highest, x, window))
    return emit.op("Mul", wins, _repeat(emit, dy, x, window))


def _repeat(emit: Emit, pooled: str, x: str, window: Window) -> str:
    """Repeat each element over its window."""
    scales = np.array([1.0, 1.0, *window.kernel], np.float32)
    repeated = emit.op(
        "Resize",
        pooled,
        None,
        emit.graph.add_constant(scales),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    return emit.graph.narrow(repeated, emit.shape(x))


def max_unpool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x put to the places i, zero elsewhere;  dx = dy[i]``."""
    flat = emit.op("Reshape", dy, emit.ints([-1]))
    return (emit.op("Gather", flat, node.inputs[1], axis=0), *(None for _ in node.inputs[1:]))


def average_pool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = mean of x over each window;  dx = dy / count added to every element of the window``.

    A transposed convolution with a kernel of ones; channels are made part of the batch, so that it has one.
    """
    if "kernel_shape" not in node.attributes:
        emit.unsupported(node, "kernel_shape is missing")
    x = node.inputs[0]
    window = window_of(emit, node, tuple(node.attributes["kernel_shape"]))
    axes = range(2, 2 + len(window.kernel))
    size_in, size_out = emit.sizes(x, axes, node), emit.sizes(node.outputs[0], axes, node)
    padded = bool(node.attributes.get("count_include_pad", 0))
    share = emit.op("Mul", dy, emit.number(1.0 / _counts(window, size_in, size_out, padded=padded), dy))
    single = emit.op("Reshape", share, emit.ints([-1, 1, *size_out]))
    # The transpose covers what the windows cover; the input may reach further or, with ceil_mode, less far.
    covered = [
        (o - 1) * s + r + 1 - b
        for o, s, r, b in zip(size_out, window.strides, window.reach, window.before, strict=True)
    ]
    spread = emit.op(
        "ConvTranspose",
        single,
        emit.number(np.ones((1, 1, *window.kernel)), dy),
        strides=list(window.strides),
        dilations=list(window.dilations),
        pads=[*window.before, *(max(c - i, 0) for c, i in zip(covered, size_in, strict=True))],
    )
    missing = [max(i - c, 0) for c, i in zip(covered, size_in, strict=True)]
    whole = emit.pad(spread, [0] * (2 + len(missing)), [0, 0, *missing])
    return (emit.reshape_like(whole, x),)


def _counts(window: Window, size_in: list[int], size_out: list[int], *, padded: bool) -> np.ndarray:
    """Count what each window averages over; ``padded`` counts the padding, but nothing beyond it."""
    counts = np.ones([1] * len(size_in))
    for axis, (i, o) in enumerate(zip(size_in, size_out, strict=True)):
        low = -window.before[axis] if padded else 0
        high = i + window.after[axis] if padded else i
        starts = np.arange(o) * window.strides[axis] - window.before[axis]
        places = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        line = ((places >= low) & (places < high)).sum(axis=1)
        counts = counts * line.reshape([-1 if at == axis else 1 for at in range(len(size_in))])
    return counts
