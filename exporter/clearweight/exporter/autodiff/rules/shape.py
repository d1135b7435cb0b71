"""VJP rules of operators that only arrange or repeat elements."""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def reshape_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x in another shape;  dx = dy in the shape of x``: Reshape, Flatten, Squeeze, Unsqueeze."""
    return (emit.reshape_like(dy, node.inputs[0]), *(None for _ in node.inputs[1:]))


def transpose_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x with permuted axes;  dx = dy with the inverse permutation``."""
    rank = emit.rank(node.inputs[0])
    permutation = node.attributes.get("perm", list(range(rank))[::-1])
    return (emit.transpose(dy, [int(axis) for axis in np.argsort(permutation)]),)


def expand_vjp(_emit: Emit, _node: Node, dy: str) -> Gradients:
    """``y = x broadcast to a shape;  dx = dy summed over what was repeated``."""
    return dy, None


def tile_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x repeated r times along each axis;  dx = dy summed over the repeats``."""
    x = node.inputs[0]
    repeats = emit.setting(node, 1)
    if repeats is None:
        emit.unsupported(node, "repeats are missing")
    split: list[int | str | None] = []
    summed = []
    for axis, (count, size) in enumerate(zip(np.asarray(repeats).tolist(), emit.shape(x), strict=True)):
        if count != 1:
            summed.append(len(split))
            split.append(count)
            (size,) = emit.sizes(x, [axis], node)  # noqa: PLW2901 - the same size, known to be a number
        split.append(size)
    if not summed:
        return dy, None
    free = sum(not isinstance(size, int) for size in split)
    if free > 1:
        emit.unsupported(node, f"its input has the shape {emit.shape(x)}, expected at most one open size")
    apart = emit.op("Reshape", dy, emit.ints([size if isinstance(size, int) else -1 for size in split]))
    return emit.graph.narrow(emit.sum(apart, summed, keepdims=False), emit.shape(x)), None


def depth_to_space_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = blocks of channels laid out in space;  dx = dy with each block of space back in its channels``."""
    x = node.inputs[0]
    block = int(node.attributes["blocksize"])
    if str(node.attributes.get("mode", "DCR")) == "DCR":
        return (emit.graph.narrow(emit.op("SpaceToDepth", dy, blocksize=block), emit.shape(x)),)
    channels, height, width = emit.sizes(x, [1, 2, 3], node)
    batch = emit.shape(x)[0]
    apart = emit.reshape(dy, (batch, channels // block**2, height, block, width, block))
    return (emit.reshape_like(emit.transpose(apart, [0, 1, 3, 5, 2, 4]), x),)


def space_to_depth_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = blocks of space laid out in channels;  dx = dy with each block of channels back in space``."""
    dx = emit.op("DepthToSpace", dy, blocksize=int(node.attributes["blocksize"]), mode="DCR")
    return (emit.graph.narrow(dx, emit.shape(node.inputs[0])),)
