"""VJP rules of operators that act on each element by itself."""

import numpy as np

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients

_LARGEST = float(np.finfo(np.float32).max)


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


def relu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max(x, 0);  dx = dy where y > 0``; 0 at x = 0."""
    return (emit.op("Mul", dy, positive(emit, node.outputs[0])),)


def positive(emit: Emit, y: str) -> str:
    """Return 1 where ``y > 0`` and 0 elsewhere, in one vectorised kernel.

    ``HardSigmoid(y) = max(0, min(1, alpha y))`` with the largest float32 as alpha is the step function for
    every y above 3e-39, that is for every normal number; Greater and Cast cost two passes and a detour
    through bytes.
    """
    return emit.op("HardSigmoid", y, alpha=_LARGEST, beta=0.0)


def leaky_relu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x where x > 0, alpha x elsewhere;  dx = dy or alpha dy``; alpha at x = 0, as in torch."""
    (x,) = node.inputs
    alpha = float(node.attributes.get("alpha", 0.01))
    above = emit.op("Greater", x, emit.number(0, x))
    return (emit.op("Where", above, dy, emit.op("Mul", dy, emit.number(alpha, dy))),)


def clip_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = min(max(x, lo), hi);  dx = dy where lo <= x <= hi``, both edges included, as torch's clamp."""
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is defined, not to its bounds")
    inside = emit.as_type_of(emit.op("Equal", node.outputs[0], node.inputs[0]), dy)
    return (emit.op("Mul", dy, inside), *(None for _ in node.inputs[1:]))


def sigmoid_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = 1 / (1 + exp(-x));  dx = dy y (1 - y)``."""
    y = node.outputs[0]
    slope = emit.op("Mul", y, emit.op("Sub", emit.number(1, y), y))
    return (emit.op("Mul", dy, slope),)


def tanh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = tanh(x);  dx = dy (1 - y^2)``."""
    y = node.outputs[0]
    slope = emit.op("Sub", emit.number(1, y), emit.op("Mul", y, y))
    return (emit.op("Mul", dy, slope),)


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
    """``y = cast(x);  dx = cast(dy)`` between floating types; whole numbers and truth values pass nothing."""
    (x,) = node.inputs
    floating = [np.issubdtype(emit.graph.type(value).dtype, np.floating) for value in (x, node.outputs[0])]
    return (emit.as_type_of(dy, x) if all(floating) else None,)
