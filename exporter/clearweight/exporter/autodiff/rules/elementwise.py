"""VJP rules of arithmetic on each element by itself, and of operators that hand an element on."""

import math

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def add_vjp(_emit: Emit, _node: Node, dy: str) -> Gradients:
    """``y = a + b;  da = dy,  db = dy``."""
    return dy, dy


def sub_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a - b;  da = dy,  db = -dy``."""
    return dy, emit.op("Neg", dy) if node.wants(1) else None


def mul_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a b;  da = dy b,  db = dy a``."""
    a, b = node.inputs
    return (
        emit.op("Mul", dy, b) if node.wants(0) else None,
        emit.op("Mul", dy, a) if node.wants(1) else None,
    )


def div_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a / b;  da = dy / b,  db = -dy y / b``."""
    _, b = node.inputs
    da = emit.op("Div", dy, b)
    return da, emit.op("Neg", emit.op("Mul", da, node.outputs[0])) if node.wants(1) else None


def sum_vjp(_emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a + b + ...;  da = db = ... = dy``."""
    return tuple(dy for _ in node.inputs)


def mean_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = (a + b + ...) / n;  da = db = ... = dy / n``."""
    share = emit.op("Mul", dy, emit.number(1 / len(node.inputs), dy))
    return tuple(share for _ in node.inputs)


def extreme_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max or min of a, b, ...;  da = dy / k where a = y``, k inputs being equal to y: ties share, as in torch."""
    y = node.outputs[0]
    masks = [emit.equal(name, y) for name in node.inputs]
    share = dy if len(masks) == 1 else emit.op("Div", dy, emit.op("Sum", *masks))
    return tuple(
        emit.op("Mul", share, mask) if node.wants(index) else None for index, mask in enumerate(masks)
    )


def where_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a where c holds, b elsewhere;  da = dy where c holds,  db = dy elsewhere``."""
    chosen = emit.op("Mul", dy, emit.as_type_of(node.inputs[0], dy))
    return None, chosen, emit.op("Sub", dy, chosen) if node.wants(2) else None


def pow_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x^n;  dx = dy n x^(n - 1)``; or ``dn = dy y log(x)`` where x is a constant above zero."""
    x, exponent = node.inputs
    if node.wants(1):
        base = emit.known(x)
        if base is None or not (np.asarray(base, np.float64) > 0).all():
            emit.unsupported(
                node, "the gradient to its exponent is defined for a constant base above zero alone"
            )
        rate = emit.number(np.log(np.asarray(base, np.float64)), exponent)
        return None, emit.op("Mul", dy, emit.op("Mul", node.outputs[0], rate))
    array = emit.known(exponent)
    n = None if array is None or array.size != 1 else float(array.reshape(()))
    if n == 1:
        return dy, None
    if n == 2:
        slope = emit.op("Add", x, x)
    elif n == 3:
        slope = emit.op("Mul", emit.op("Mul", x, x), emit.number(3, x))
    elif n is not None:
        slope = emit.op("Mul", emit.op("Pow", x, emit.number(n - 1, x)), emit.number(n, x))
    else:
        power = emit.as_type_of(exponent, x)
        slope = emit.op("Mul", emit.op("Pow", x, emit.op("Sub", power, emit.number(1, x))), power)
    return emit.op("Mul", dy, slope), None


def mod_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = a - b n, n = a / b rounded towards zero;  da = dy,  db = -dy n``; the steps of n count as none."""
    a, b = node.inputs
    db = None
    if node.wants(1):
        whole = emit.op("Div", emit.op("Sub", a, node.outputs[0]), b)
        db = emit.op("Neg", emit.op("Mul", dy, whole))
    return dy, db


def sqrt_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sqrt(x);  dx = dy / (2 y)``; infinite at x = 0, as in torch."""
    y = node.outputs[0]
    return (emit.op("Div", dy, emit.op("Add", y, y)),)


def reciprocal_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = 1 / x;  dx = -dy y^2``."""
    y = node.outputs[0]
    return (emit.op("Neg", emit.op("Mul", dy, emit.op("Mul", y, y))),)


def exp_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = exp(x);  dx = dy y``."""
    return (emit.op("Mul", dy, node.outputs[0]),)


def log_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = log(x);  dx = dy / x``."""
    return (emit.op("Div", dy, node.inputs[0]),)


def abs_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = |x|;  dx = dy sign(x)``; 0 at x = 0."""
    return (emit.op("Mul", dy, emit.op("Sign", node.inputs[0])),)


def neg_vjp(emit: Emit, _node: Node, dy: str) -> Gradients:
    """``y = -x;  dx = -dy``."""
    return (emit.op("Neg", dy),)


def erf_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = erf(x);  dx = dy exp(-x^2) 2 / sqrt(pi)``."""
    (x,) = node.inputs
    density = emit.op("Exp", emit.op("Mul", x, emit.op("Neg", x)))
    return (emit.op("Mul", dy, emit.op("Mul", density, emit.number(2 / math.sqrt(math.pi), x))),)


def identity_vjp(_emit: Emit, _node: Node, dy: str) -> Gradients:
    """``y = x;  dx = dy``."""
    return (dy,)


def dropout_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x`` at inference;  ``dx = dy``."""
    training = emit.setting(node, 2)
    if training is not None and bool(training):
        emit.unsupported(node, "training_mode is on")
    return (dy, *(None for _ in node.inputs[1:]))


def cast_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x in another type;  dx = dy in the type of x`` between floating types; others pass nothing."""
    x = node.inputs[0]
    floating = [np.issubdtype(emit.graph.type(value).dtype, np.floating) for value in (x, node.outputs[0])]
    return (emit.as_type_of(dy, x) if all(floating) else None, *(None for _ in node.inputs[1:]))
