"""VJP rule of padding."""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def pad_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x with a border;  dx = dy without it``, and for reflect and edge the border folded back in.

    Constant borders of negative width (crops) get zeros back.
    """
    x = node.inputs[0]
    pads, axes_given = emit.setting(node, 1), emit.setting(node, 3)
    if pads is None:
        emit.unsupported(node, "pads are missing")
    if node.wants(2):
        emit.unsupported(node, "the gradient to its fill value is not available")
    rank = emit.rank(x)
    axes = list(range(rank)) if axes_given is None else [int(axis) % rank for axis in axes_given]
    before, after = pads[: len(axes)].tolist(), pads[len(axes) :].tolist()
    mode = str(node.attributes.get("mode", "constant"))
    padded = [(axis, b, a) for axis, b, a in zip(axes, before, after, strict=True) if b or a]
    for axis, b, a in padded:
        if mode == "constant":
            dy = _unpad(emit, dy, axis, b, a)
        elif min(b, a) < 0:
            emit.unsupported(node, f"mode {mode!r} with a border of negative width")
        else:
            (size,) = emit.sizes(x, [axis], node)
            dy = _fold_back(emit, dy, axis, size, b, a, mode)
    return (emit.graph.narrow(dy, emit.shape(x)), *(None for _ in node.inputs[1:]))


def _unpad(emit: Emit, dy: str, axis: int, before: int, after: int) -> str:
    rank = emit.rank(dy)
    end = -after if after > 0 else np.iinfo(np.int64).max
    if before > 0 or after > 0:
        dy = emit.slice(dy, [axis], [max(before, 0)], [int(end)], [1])
    widths = [[max(-side, 0) if at == axis else 0 for at in range(rank)] for side in (before, after)]
    return emit.pad(dy, *widths)


def _fold_back(emit: Emit, dy: str, axis: int, size: int, before: int, after: int, mode: str) -> str:
    """Add border elements to those they were copied from: a product with the copying matrix, per axis."""
    source = np.pad(np.arange(size), (before, after), mode=mode)  # type: ignore[call-overload]  # ONNX's names are numpy's
    return emit.along_axis(dy, np.eye(size)[source].T, axis)
