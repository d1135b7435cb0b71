"""VJP rules of trigonometric and hyperbolic functions and their inverses, each element by itself."""

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def sin_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sin(x);  dx = dy cos(x)``."""
    return (emit.op("Mul", dy, emit.op("Cos", node.inputs[0])),)


def cos_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = cos(x);  dx = -dy sin(x)``."""
    return (emit.op("Neg", emit.op("Mul", dy, emit.op("Sin", node.inputs[0]))),)


def tan_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = tan(x);  dx = dy (1 + y^2)``."""
    y = node.outputs[0]
    return (emit.op("Mul", dy, emit.op("Add", emit.op("Mul", y, y), emit.number(1, y))),)


def asin_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = asin(x);  dx = dy / sqrt(1 - x^2)``."""
    (x,) = node.inputs
    return (emit.op("Div", dy, emit.op("Sqrt", _one_less_square(emit, x))),)


def acos_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = acos(x);  dx = -dy / sqrt(1 - x^2)``."""
    (x,) = node.inputs
    return (emit.op("Neg", emit.op("Div", dy, emit.op("Sqrt", _one_less_square(emit, x)))),)


def atan_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = atan(x);  dx = dy / (1 + x^2)``."""
    (x,) = node.inputs
    return (emit.op("Div", dy, emit.op("Add", emit.op("Mul", x, x), emit.number(1, x))),)


def sinh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sinh(x);  dx = dy cosh(x)``."""
    return (emit.op("Mul", dy, emit.op("Cosh", node.inputs[0])),)


def cosh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = cosh(x);  dx = dy sinh(x)``."""
    return (emit.op("Mul", dy, emit.op("Sinh", node.inputs[0])),)


def asinh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = asinh(x);  dx = dy / sqrt(x^2 + 1)``."""
    (x,) = node.inputs
    square = emit.op("Add", emit.op("Mul", x, x), emit.number(1, x))
    return (emit.op("Div", dy, emit.op("Sqrt", square)),)


def acosh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = acosh(x);  dx = dy / sqrt(x^2 - 1)``."""
    (x,) = node.inputs
    square = emit.op("Sub", emit.op("Mul", x, x), emit.number(1, x))
    return (emit.op("Div", dy, emit.op("Sqrt", square)),)


def atanh_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = atanh(x);  dx = dy / (1 - x^2)``."""
    return (emit.op("Div", dy, _one_less_square(emit, node.inputs[0])),)


def _one_less_square(emit: Emit, x: str) -> str:
    return emit.op("Sub", emit.number(1, x), emit.op("Mul", x, x))
