"""VJP rules of matrix products."""

from math import prod

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients

# Elements of a weight from which on picking rows, four operators, takes less time than reading all of it.
_LARGE = 2**18


def gemm_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = alpha op(a) op(b) + beta c;  d op(a) = alpha dy op(b)^T,  d op(b) = alpha op(a)^T dy,  dc = beta dy``."""
    a, b = node.inputs[:2]
    alpha = float(node.attributes.get("alpha", 1.0))
    beta = float(node.attributes.get("beta", 1.0))
    trans_a, trans_b = (int(node.attributes.get(name, 0)) for name in ("transA", "transB"))
    da = db = dc = None
    if node.wants(0):
        if trans_a:
            da = emit.op("Gemm", b, dy, alpha=alpha, transA=trans_b, transB=1)
        elif trans_b and alpha == 1.0 and dy in emit.one_hot and _is_large(emit, b):
            da = _chosen_rows(emit, dy, b)
        else:
            da = emit.op("Gemm", dy, b, alpha=alpha, transB=1 - trans_b)
    if node.wants(1):
        if trans_b:
            db = emit.op("Gemm", dy, a, alpha=alpha, transA=1, transB=trans_a)
        else:
            db = emit.op("Gemm", a, dy, alpha=alpha, transA=1 - trans_a)
    if node.wants(2):
        dc = dy if beta == 1.0 else emit.op("Mul", dy, emit.number(beta, dy))
    return (da, db, dc)[: len(node.inputs)]


def _is_large(emit: Emit, weight: str) -> bool:
    return prod(size for size in emit.shape(weight) if isinstance(size, int)) >= _LARGE


def _chosen_rows(emit: Emit, one_hot: str, weight: str) -> str:
    """Multiply a matrix with rows of which one element is 1 and the others 0: pick its rows. NaN stays NaN."""
    chosen = emit.op("ArgMax", one_hot, axis=1, keepdims=0)
    return emit.op("Mul", emit.op("Gather", weight, chosen, axis=0), emit.sum(one_hot, [1], keepdims=True))


def matmul_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a b;  da = dy b^T,  db = a^T dy``, batch axes broadcast; a vector counts as one row or column."""
    a, b = node.inputs
    rank_a, rank_b = emit.rank(a), emit.rank(b)
    if rank_a == rank_b == 2:
        return (
            emit.op("Gemm", dy, b, transB=1) if node.wants(0) else None,
            emit.op("Gemm", a, dy, transA=1) if node.wants(1) else None,
        )
    axes = [axis for axis, is_vector in ((-2, rank_a == 1), (-1, rank_b == 1)) if is_vector]
    matrix_dy = emit.op("Unsqueeze", dy, emit.ints(axes)) if axes else dy
    da = db = None
    if node.wants(0):
        right = emit.op("Unsqueeze", b, emit.ints([0])) if rank_b == 1 else emit.swap_last(b)
        da = emit.op("MatMul", matrix_dy, right)
        da = emit.op("Squeeze", da, emit.ints([-2])) if rank_a == 1 else da
    if node.wants(1):
        left = emit.op("Unsqueeze", a, emit.ints([1])) if rank_a == 1 else emit.swap_last(a)
        db = emit.op("MatMul", left, matrix_dy)
        db = emit.op("Squeeze", db, emit.ints([-1])) if rank_b == 1 else db
    return da, db
