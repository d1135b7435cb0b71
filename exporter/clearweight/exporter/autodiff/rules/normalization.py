"""VJP rules of normalisation, as it is at inference.

With ``c = x - mean`` and ``r = 1 / sqrt(var + eps)`` over the normalised axes and ``g = dy s``, all of layer,
instance and group norm (Ba et al., arXiv 1607.06450, and its relatives) have the gradient
``dx = r (g - mean(g) - c r^2 mean(g c))``.
"""

from collections.abc import Sequence

import numpy as np

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


def layer_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = s c r + b over last axes;  dx = r (g - mean(g) - c r^2 mean(g c)), g = dy s,  ds = dy c r,  db = dy``."""
    x, scale = node.inputs[:2]
    rank = emit.rank(x)
    axes = list(range(int(node.attributes.get("axis", -1)) % rank, rank))
    mean, r = emit.output(node, 1), emit.output(node, 2)  # the operator has computed both anyway
    centred = emit.op("Sub", x, mean)
    dx = ds = None
    if node.wants(0):
        dx = _normalised_gradient(emit, emit.op("Mul", dy, scale), centred, r, axes)
    if node.wants(1):
        ds = emit.op("Mul", dy, emit.op("Mul", centred, r))
    return (dx, ds, dy)[: len(node.inputs)]


def rms_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = s x r, r = 1 / sqrt(mean(x^2) + eps);  dx = r (g - x r^2 mean(g x)), g = dy s,  ds = dy x r``."""
    x, scale = node.inputs
    rank = emit.rank(x)
    axes = list(range(int(node.attributes.get("axis", -1)) % rank, rank))
    r = _inverse_deviation(emit, x, axes, float(node.attributes.get("epsilon", 1e-5)))
    dx = ds = None
    if node.wants(0):
        g = emit.op("Mul", dy, scale)
        common = emit.op("Mul", _mean(emit, emit.op("Mul", g, x), axes), emit.op("Mul", r, r))
        dx = emit.op("Mul", emit.op("Sub", g, emit.op("Mul", x, common)), r)
    if node.wants(1):
        ds = emit.op("Mul", dy, emit.op("Mul", x, r))
    return dx, ds


def instance_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = s c r + b over space;  dx = r s (dy - mean(dy) - c r^2 mean(dy c)),  ds = sum dy c r,  db = sum dy``."""
    x, scale, _ = node.inputs
    rank = emit.rank(x)
    axes = list(range(2, rank))
    centred = emit.op("Sub", x, _mean(emit, x, axes))
    r = _inverse_deviation(emit, centred, axes, float(node.attributes.get("epsilon", 1e-5)))
    others = [0, *axes]
    dx = ds = db = None
    if node.wants(0):
        per_channel = emit.reshape(scale, (1, *emit.sizes(scale, [0], node), *[1] * (rank - 2)))
        # A factor per channel commutes with means over space, so it is applied to the small r.
        dx = _normalised_gradient(emit, dy, centred, r, axes, factor=per_channel)
    if node.wants(1):
        ds = emit.sum(emit.op("Mul", dy, emit.op("Mul", centred, r)), others, keepdims=False)
    if node.wants(2):
        db = emit.sum(dy, others, keepdims=False)
    return dx, ds, db


def group_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = s c r + b over groups of channels;  dx = r (g - mean(g) - c r^2 mean(g c)), g = dy s``.

    Scale and bias have one number per group up to opset 20 and one per channel from 21 on.
    """
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is available")
    x, scale, _ = node.inputs
    groups = int(node.attributes["num_groups"])
    channels, *space = emit.sizes(x, range(1, emit.rank(x)), node)
    (size,) = emit.sizes(scale, [0], node)
    split = (emit.shape(x)[0], groups, channels // groups, *space)
    per = (1, groups, *([1] if size == groups and node.key.since_version < 21 else [channels // groups]))
    shaped = emit.reshape(scale, (*per, *[1] * len(space)))
    axes = list(range(2, len(split)))
    xg, dyg = emit.reshape(x, split), emit.reshape(dy, split)
    centred = emit.op("Sub", xg, _mean(emit, xg, axes))
    r = _inverse_deviation(emit, centred, axes, float(node.attributes.get("epsilon", 1e-5)))
    dx = _normalised_gradient(emit, emit.op("Mul", dyg, shaped), centred, r, axes)
    return emit.reshape_like(dx, x), None, None


def local_response_normalization_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x t^-b, t = k + a/n W(x^2);  dx = dy t^-b - 2 a b / n x W'(dy x t^(-b-1))``.

    W sums over a window of n channels and W' is its transpose (Krizhevsky et al., NeurIPS 2012, section 3.3).
    """
    (x,) = node.inputs
    size = int(node.attributes["size"])
    alpha, beta, bias = (
        float(node.attributes.get(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    before = (size - 1) // 2
    squares = _over_channels(emit, emit.op("Mul", x, x), size, before)
    t = emit.op("Add", emit.op("Mul", squares, emit.number(alpha / size, x)), emit.number(bias, x))
    scaled = emit.op("Mul", dy, emit.op("Pow", t, emit.number(-beta, x)))
    crossed = _over_channels(emit, emit.op("Div", emit.op("Mul", scaled, x), t), size, size - 1 - before)
    rest = emit.op("Mul", emit.op("Mul", x, crossed), emit.number(2.0 * alpha * beta / size, x))
    return (emit.op("Sub", scaled, rest),)


def _over_channels(emit: Emit, value: str, size: int, before: int) -> str:
    """Sum over ``size`` neighbouring channels, ``before`` of them in front, by a convolution along the channels."""
    beyond = [0] * (emit.rank(value) - 2)
    ones = emit.number(np.ones((1, 1, size, *(1 for _ in beyond))), value)
    axis = emit.ints([1])
    summed = emit.op(
        "Conv", emit.op("Unsqueeze", value, axis), ones, pads=[before, *beyond, size - 1 - before, *beyond]
    )
    return emit.graph.narrow(emit.op("Squeeze", summed, axis), emit.shape(value))


def _mean(emit: Emit, value: str, axes: Sequence[int]) -> str:
    if emit.graph.opset >= 18:
        return emit.op("ReduceMean", value, emit.ints(list(axes)), keepdims=1)
    return emit.op("ReduceMean", value, axes=list(axes), keepdims=1)


def _inverse_deviation(emit: Emit, centred: str, axes: Sequence[int], epsilon: float) -> str:
    variance = _mean(emit, emit.op("Mul", centred, centred), axes)
    return emit.op("Reciprocal", emit.op("Sqrt", emit.op("Add", variance, emit.number(epsilon, centred))))


def _normalised_gradient(
    emit: Emit, g: str, centred: str, r: str, axes: Sequence[int], factor: str | None = None
) -> str:
    """Return ``factor r (g - mean(g) - c r^2 mean(g c))``."""
    along = _mean(emit, emit.op("Mul", g, centred), axes)
    common = emit.op("Mul", along, emit.op("Mul", r, r))
    rest = emit.op("Sub", g, emit.op("Mul", centred, common))
    rest = emit.op("Sub", rest, _mean(emit, g, axes))
    return emit.op("Mul", rest, r if factor is None else emit.op("Mul", r, factor))
