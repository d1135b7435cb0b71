"""VJP rules of reductions over axes: sums, means, norms and extremes."""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients

# A norm below this counts as zero: its gradient is then zero, where 0 / 0 would be NaN.
_SMALLEST_NORM = 1e-30


def reduce_sum_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sum of x over axes;  dx = dy repeated along them``."""
    axes = _axes(emit, node, may_be_none=True)
    dx = emit.expand_like(_kept(emit, node, dy, axes), node.inputs[0])
    return _first(node, dx)


def reduce_mean_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = mean of x over axes;  dx = dy / count repeated along them``."""
    axes = _axes(emit, node, may_be_none=True)
    if not axes:
        return _first(node, dy)
    share = emit.op("Div", dy, emit.element_count(node.inputs[0], axes))
    return _first(node, emit.expand_like(_kept(emit, node, share, axes), node.inputs[0]))


def global_average_pool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = mean of x over space;  dx = dy / count repeated over space``."""
    (x,) = node.inputs
    share = emit.op("Div", dy, emit.element_count(x, range(2, emit.rank(x))))
    return (emit.expand_like(share, x),)


def reduce_extreme_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max or min of x over axes;  dx = dy / k where x = y``, k being equal: ties share, as in torch's amax."""
    axes = _axes(emit, node, may_be_none=True)
    return _first(node, _shared(emit, node, _kept(emit, node, dy, axes), axes))


def global_max_pool_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max of x over space;  dx = dy / k where x = y``, k being equal: ties share."""
    return (_shared(emit, node, dy, list(range(2, emit.rank(dy)))),)


def _shared(emit: Emit, node: Node, dy: str, axes: list[int]) -> str:
    x = node.inputs[0]
    mask = emit.equal(x, _kept(emit, node, node.outputs[0], axes))
    return emit.op("Mul", mask, emit.op("Div", dy, emit.sum(mask, axes, keepdims=True)))


def reduce_prod_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = product of x over axes;  dx = dy times the product of all others``, zeros or not."""
    axes = _axes(emit, node)
    (x, *given), opset_13 = node.inputs, node.attributes.get("axes")
    zero = emit.equal(x, emit.number(0, x))
    others = emit.op("Add", x, zero)  # a zero counts as one
    product = emit.op("ReduceProd", others, *given, axes=opset_13, keepdims=1)
    zeros = emit.sum(zero, axes, keepdims=True)
    none, one = (emit.equal(zeros, emit.number(count, x)) for count in (0, 1))
    seen = emit.op("Add", none, emit.op("Mul", one, zero))
    share = emit.op("Mul", emit.op("Div", product, others), seen)
    return _first(node, emit.op("Mul", share, _kept(emit, node, dy, axes)))


def reduce_l1_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sum of |x| over axes;  dx = dy sign(x)``; 0 at x = 0."""
    dy = _kept(emit, node, dy, _axes(emit, node))
    return _first(node, emit.op("Mul", emit.op("Sign", node.inputs[0]), dy))


def reduce_l2_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sqrt(sum of x^2 over axes);  dx = dy x / y``; 0 where y = 0, as in torch."""
    axes = _axes(emit, node)
    y = node.outputs[0]
    share = emit.op("Div", dy, emit.op("Max", y, emit.number(_SMALLEST_NORM, y)))
    return _first(node, emit.op("Mul", node.inputs[0], _kept(emit, node, share, axes)))


def reduce_sum_square_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sum of x^2 over axes;  dx = 2 dy x``."""
    double = emit.op("Add", dy, dy)
    return _first(node, emit.op("Mul", node.inputs[0], _kept(emit, node, double, _axes(emit, node))))


def reduce_log_sum_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = log(sum of x over axes);  dx = dy exp(-y) repeated along them``."""
    share = emit.op("Mul", dy, emit.op("Exp", emit.op("Neg", node.outputs[0])))
    return _first(node, emit.expand_like(_kept(emit, node, share, _axes(emit, node)), node.inputs[0]))


def reduce_log_sum_exp_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = log(sum of exp(x) over axes);  dx = dy exp(x - y)``."""
    axes = _axes(emit, node)
    y = _kept(emit, node, node.outputs[0], axes)
    share = emit.op("Exp", emit.op("Sub", node.inputs[0], y))
    return _first(node, emit.op("Mul", share, _kept(emit, node, dy, axes)))


def _first(node: Node, dx: str) -> Gradients:
    return (dx, *(None for _ in node.inputs[1:]))


def _axes(emit: Emit, node: Node, *, may_be_none: bool = False) -> list[int]:
    """Read the reduced axes, given as an input or as an attribute by the operator's version.

    Over no axes at all a sum, a mean or an extreme returns its input; what a norm returns, runtimes disagree on.
    """
    given = emit.setting(node, 1)
    rank = emit.rank(node.inputs[0])
    listed = node.attributes.get("axes", []) if given is None else np.asarray(given).reshape(-1).tolist()
    if not listed and not int(node.attributes.get("noop_with_empty_axes", 0)):
        return list(range(rank))
    if not listed and not may_be_none:
        emit.unsupported(node, "it reduces no axes, and what it returns then is not agreed upon")
    return sorted(int(axis) % rank for axis in listed)


def _kept(emit: Emit, node: Node, reduced: str, axes: list[int]) -> str:
    """Give a reduced value its reduced axes back, with size 1."""
    if axes and not int(node.attributes.get("keepdims", 1)):
        return emit.op("Unsqueeze", reduced, emit.ints(axes))
    return reduced
