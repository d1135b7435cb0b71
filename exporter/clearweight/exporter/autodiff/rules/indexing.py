"""VJP rules of operators that pick elements by index, and of those that mask or accumulate along an axis."""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def gather_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x[i] along an axis;  dx[j] = sum of dy[k] over all k with i[k] = j``; computed ones along axis 0."""
    x = node.inputs[0]
    axis = int(node.attributes.get("axis", 0)) % emit.rank(x)
    if axis == 0 and emit.known(node.inputs[1]) is None:
        places = emit.op("Unsqueeze", node.inputs[1], emit.ints([-1]))
        return emit.op("ScatterND", emit.zeros_like(x), places, dy, reduction="add"), None
    (size,) = emit.sizes(x, [axis], node)
    indices = emit.setting(node, 1)
    if indices is None:
        emit.unsupported(node, "indices are missing")
    picked = np.asarray(indices, np.int64) % size
    if picked.ndim == 0:
        dy = emit.op("Unsqueeze", dy, emit.ints([axis]))
    elif picked.ndim > 1:
        before, after = emit.shape(dy)[:axis], emit.shape(dy)[axis + picked.ndim :]
        if sum(not isinstance(dim, int) for dim in (*before, *after)) > 1:
            emit.unsupported(
                node, f"its output has the shape {emit.shape(dy)}, expected one open size at most"
            )
        dy = emit.reshape(dy, (*before, picked.size, *after))
    dx = _put_back(emit, dy, picked.reshape(-1), size, axis)
    return emit.graph.narrow(dx, emit.shape(x)), None


def _put_back(emit: Emit, dy: str, picked: np.ndarray, size: int, axis: int) -> str:
    """Return elements along an axis to their places: by zeros round a run, by a lookup, or by summing repeats."""
    rank = emit.rank(dy)
    if (np.diff(picked) == 1).all():
        before, after = [0] * rank, [0] * rank
        before[axis], after[axis] = int(picked[0]), size - 1 - int(picked[-1])
        return emit.pad(dy, before, after)
    places, counts = np.unique(picked, return_counts=True)
    if counts.max() > 1:
        return emit.along_axis(dy, np.eye(size)[picked].T, axis)
    source = np.full(size, len(picked))  # one row of zeros behind the last serves all that was not picked
    source[picked] = np.arange(len(picked))
    if len(places) < size:
        after = [1 if at == axis else 0 for at in range(rank)]
        dy = emit.pad(dy, [0] * rank, after)
    return emit.op("Gather", dy, emit.ints(source.tolist()), axis=axis)


def gather_elements_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x[i] element by element along an axis;  dx[i] += dy``; the indices may be computed."""
    x, indices = node.inputs
    axis = int(node.attributes.get("axis", 0))
    return emit.op("ScatterElements", emit.zeros_like(x), indices, dy, axis=axis, reduction="add"), None


def gather_nd_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x[i] with i a list of places;  dx[i] += dy``; the indices may be computed."""
    if int(node.attributes.get("batch_dims", 0)):
        emit.unsupported(node, "batch_dims is set")
    x, indices = node.inputs
    return emit.op("ScatterND", emit.zeros_like(x), indices, dy, reduction="add"), None


def scatter_elements_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x with y[i] = u, element by element along an axis;  dx = dy with dx[i] = 0,  du = dy[i]``.

    With reduction ``add``, ``y[i] += u;  dx = dy``. No place may be written twice unless it is added to.
    """
    x, indices, updates = node.inputs
    axis = int(node.attributes.get("axis", 0))
    dx = dy
    if not _adds(emit, node) and node.wants(0):
        dx = emit.op("ScatterElements", dy, indices, emit.zeros_like(updates), axis=axis)
    du = emit.op("GatherElements", dy, indices, axis=axis) if node.wants(2) else None
    return emit.graph.narrow(dx, emit.shape(x)), None, du


def scatter_nd_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x with y[i] = u, i a list of places;  dx = dy with dx[i] = 0,  du = dy[i]``; ``add`` as above."""
    x, indices, updates = node.inputs
    dx = dy
    if not _adds(emit, node) and node.wants(0):
        dx = emit.op("ScatterND", dy, indices, emit.zeros_like(updates))
    du = emit.op("GatherND", dy, indices) if node.wants(2) else None
    return emit.graph.narrow(dx, emit.shape(x)), None, du


def _adds(emit: Emit, node: Node) -> bool:
    reduction = str(node.attributes.get("reduction", "none"))
    if reduction not in ("none", "add"):
        emit.unsupported(node, f"reduction is {reduction!r}")
    return reduction == "add"


def top_k_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = the k largest or smallest along an axis, i their places;  dx[i] = dy``, zero elsewhere."""
    x = node.inputs[0]
    axis = int(node.attributes.get("axis", -1))
    dx = emit.op("ScatterElements", emit.zeros_like(x), emit.output(node, 1), dy, axis=axis)
    return emit.graph.narrow(dx, emit.shape(x)), None


def reverse_sequence_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x with the first steps of each row in reverse order;  dx = dy`` with them reversed again."""
    return emit.op("ReverseSequence", dy, node.inputs[1], **node.attributes), None


def trilu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = the upper or lower triangle of x;  dx = the same triangle of dy``."""
    upper = int(node.attributes.get("upper", 1))
    return (emit.op("Trilu", dy, node.input(1), upper=upper), *(None for _ in node.inputs[1:]))


def cum_sum_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y_k = sum of x_j for j <= k;  dx_j = sum of dy_k for k >= j``; exclusive and reverse alike."""
    reverse = int(node.attributes.get("reverse", 0))
    exclusive = int(node.attributes.get("exclusive", 0))
    return emit.op("CumSum", dy, node.inputs[1], reverse=1 - reverse, exclusive=exclusive), None
