"""VJP rules of softmax and its logarithm."""

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def softmax_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = softmax(x);  dx = y (dy - sum(dy y))`` along the axis."""
    return (softmax_pull_back(emit, node.outputs[0], dy, int(node.attributes.get("axis", -1))),)


def softmax_pull_back(emit: Emit, y: str, dy: str, axis: int) -> str:
    """Return the gradient to what became ``y`` by a softmax along an axis."""
    weighted = emit.op("Mul", dy, y)
    mean = emit.sum(weighted, [axis], keepdims=True)
    return emit.op("Sub", weighted, emit.op("Mul", y, mean))


def log_softmax_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x - log(sum(exp(x)));  dx = dy - exp(y) sum(dy)`` along the axis."""
    axis = int(node.attributes.get("axis", -1))
    total = emit.sum(dy, [axis], keepdims=True)
    return (emit.op("Sub", dy, emit.op("Mul", emit.op("Exp", node.outputs[0]), total)),)
