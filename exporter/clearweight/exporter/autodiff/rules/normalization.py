"""VJP rules of normalisation, as it is at inference."""

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def batch_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = s (x - m) r + b, r = 1 / sqrt(v + eps);  dx = dy s r,  ds = sum dy (x - m) r,  db = sum dy``."""
    if int(node.attributes.get("training_mode", 0)):
        emit.unsupported(node, "training_mode is on")
    if node.wants(3) or node.wants(4):
        emit.unsupported(node, "the gradient to its statistics is not available")
    x, s, _, mean, variance = node.inputs
    per_channel = [1, emit.sizes(s, [0], node)[0], *[1] * (emit.rank(x) - 2)]
    epsilon = emit.number(float(node.attributes.get("epsilon", 1e-5)), variance)
    r = emit.op("Reciprocal", emit.op("Sqrt", emit.op("Add", variance, epsilon)))
    others = [0, *range(2, emit.rank(x))]
    dx = ds = db = None
    if node.wants(0):
        dx = emit.op("Mul", dy, emit.reshape(emit.op("Mul", s, r), tuple(per_channel)))
    if node.wants(1):
        centred = emit.op("Sub", x, emit.reshape(mean, tuple(per_channel)))
        scaled = emit.op("Mul", centred, emit.reshape(r, tuple(per_channel)))
        ds = emit.sum(emit.op("Mul", dy, scaled), others, keepdims=False)
    if node.wants(2):
        db = emit.sum(dy, others, keepdims=False)
    return dx, ds, db, None, None


def softmax_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = softmax(x);  dx = y (dy - sum(dy y))`` along the axis."""
    y = node.outputs[0]
    axis = int(node.attributes.get("axis", -1))
    weighted = emit.op("Mul", dy, y)
    mean = emit.sum(weighted, [axis], keepdims=True)
    return (emit.op("Sub", weighted, emit.op("Mul", y, mean)),)
