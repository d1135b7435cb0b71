"""VJP rules of activation functions: each element by itself, the slope from the output where that is cheaper."""

import math

import numpy as np

from clearweight.exporter.autodiff.emit import STEEPEST, Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.phases import gate
from clearweight.exporter.autodiff.walker import Gradients

# Of Selu, as ONNX and torch fix them (Klambauer et al., NeurIPS 2017).
_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875
_STEEP = 2.0**100  # a power of two: multiplying by it rounds nothing
_CUBIC = 0.044715  # of the tanh approximation of Gelu (Hendrycks and Gimpel, arXiv 1606.08415)


def relu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max(x, 0);  dx = dy where y > 0``; 0 at x = 0."""
    return (gate(emit, dy, "relu", node.outputs[0], STEEPEST, 0.0),)


def leaky_relu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x where x > 0, a x elsewhere;  dx = dy or a dy``; a at x = 0, as in torch."""
    alpha = float(node.attributes.get("alpha", 0.01))
    signed = (
        node.outputs[0] if alpha > 0 else node.inputs[0]
    )  # y lets a runtime fuse the operator into a convolution
    above = emit.op("Greater", signed, emit.number(0, signed))
    return (emit.op("Where", above, dy, emit.op("Mul", dy, emit.number(alpha, dy))),)


def prelu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x where x > 0, a x elsewhere;  dx = dy or a dy,  da = dy min(x, 0)``; a at x = 0, as in torch."""
    x, slope = node.inputs
    dx = da = None
    if node.wants(0):
        above = emit.op("Greater", x, emit.number(0, x))
        dx = emit.op("Where", above, dy, emit.op("Mul", dy, slope))
    if node.wants(1):
        da = emit.op("Mul", dy, emit.op("Min", x, emit.number(0, x)))
    return dx, da


def thresholded_relu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x where x > a, 0 elsewhere;  dx = dy where x > a``; 0 at x = a."""
    (x,) = node.inputs
    alpha = emit.number(float(node.attributes.get("alpha", 1.0)), x)
    return (emit.op("Mul", dy, emit.as_type_of(emit.op("Greater", x, alpha), dy)),)


def clip_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = min(max(x, lo), hi);  dx = dy where lo < y < hi``, both bounds left out, as torch's relu6 and hardtanh.

    Only y is looked at: a runtime can then fuse Clip into the convolution before it, which x would forbid.
    """
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is defined, not to its bounds")
    y, low, high = node.outputs[0], node.input(1), node.input(2)
    none = tuple(None for _ in node.inputs[1:])
    bounds = clip_bounds(emit, node)
    if bounds is not None:
        if emit.costs.keeps_blocks("clip", emit.graph.type(y).shape or ()):
            above = above_bound(emit, y, bounds[0], dy)
            return gate(emit, above, "clip", y, -_STEEP, bounds[1] * _STEEP), *none
        inside = _inside(emit, y, *bounds)
        if inside is not None:
            return emit.op("Mul", dy, inside), *none
    if low is not None:
        known = emit.known(low)
        zero = known is not None and not np.any(np.asarray(known, np.float64))
        dy = emit.op("Mul", dy, emit.positive(y if zero else emit.op("Sub", y, low)))
    if high is not None:
        dy = emit.op("Mul", dy, emit.positive(emit.op("Sub", high, y)))
    return dy, *none


def clip_bounds(emit: Emit, node: Node) -> tuple[float, float] | None:
    """Return both bounds of a Clip as numbers; None if one is missing, computed, or too large for steep ramps."""
    known = [None if (name := node.input(index)) is None else emit.known(name) for index in (1, 2)]
    if known[0] is None or known[1] is None:
        return None
    low, high = (float(np.asarray(bound).reshape(())) for bound in known if bound is not None)
    return (low, high) if max(abs(low), abs(high)) < 2**20 else None


def above_bound(emit: Emit, y: str, low: float, dy: str) -> str:
    """Return ``dy`` where ``y > low`` and 0 elsewhere."""
    return gate(emit, dy, "clip", y, _STEEP, -low * _STEEP)


def _inside(emit: Emit, y: str, low: float, high: float) -> str | None:
    """Return 1 where ``low < y < high`` and 0 elsewhere in three passes; None where float32 has no exact middle.

    Two ramps would take four; where convolutions keep their blocked layout they are cheaper all the same.

    The bounds are told exactly; within one rounding of the distance to the middle (1e-7 of the range) a value counts as
    the bound.
    """
    centre = (low + high) / 2
    reach = high - centre
    exact = float(np.float32(centre)) == centre and float(np.float32(reach)) == reach == centre - low
    if not exact or not 2**-20 < abs(reach) < 2**20:
        return None
    distance = emit.op("Abs", y if centre == 0 else emit.op("Sub", y, emit.number(centre, y)))
    return emit.op("HardSigmoid", distance, alpha=-_STEEP, beta=reach * _STEEP)


def shrink_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x + b where x < -l, x - b where x > l, 0 between;  dx = dy where |x| > l``; 0 at both bounds."""
    (x,) = node.inputs
    bound = emit.number(float(node.attributes.get("lambd", 0.5)), x)
    return (emit.op("Mul", dy, emit.as_type_of(emit.op("Greater", emit.op("Abs", x), bound), dy)),)


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


def hard_sigmoid_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = min(max(a x + b, 0), 1);  dx = a dy where 0 < y < 1``, both edges left out, as in torch."""
    y = node.outputs[0]
    inside = emit.positive(emit.op("Mul", y, emit.op("Sub", emit.number(1, y), y)))
    alpha = float(node.attributes.get("alpha", 0.2))
    return (emit.op("Mul", dy, emit.op("Mul", inside, emit.number(alpha, y))),)


def hard_swish_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x h, h = min(max(x / 6 + 1/2, 0), 1);  dx = dy (h + x / 6 where |x| < 3)``, so 0 at -3 and 1 at 3."""
    (x,) = node.inputs
    h = emit.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    inside = emit.op("HardSigmoid", emit.op("Abs", x), alpha=-_STEEP, beta=3 * _STEEP)
    sixth = emit.op("Mul", x, emit.number(1 / 6, x))
    return (emit.op("Mul", dy, emit.op("Add", h, emit.op("Mul", sixth, inside))),)


def elu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x where x > 0, a (exp(x) - 1) elsewhere;  dx = dy where x > 0, dy (y + a) elsewhere``; a at x = 0."""
    y = node.outputs[0]
    alpha = float(node.attributes.get("alpha", 1.0))
    lower = emit.op("Add", y, emit.number(alpha, y))
    if alpha == 1.0:  # then y + 1 exceeds 1 exactly where x > 0
        return (emit.op("Mul", dy, emit.op("Min", lower, emit.number(1, y))),)
    above = emit.op("Greater", y if alpha > 0 else node.inputs[0], emit.number(0, y))
    return (emit.op("Mul", dy, emit.op("Where", above, emit.number(1, y), lower)),)


def selu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = c x where x > 0, c a (exp(x) - 1) elsewhere;  dx = c dy where x > 0, dy (y + c a) elsewhere``."""
    y = node.outputs[0]
    alpha = float(node.attributes.get("alpha", _SELU_ALPHA))
    gamma = float(node.attributes.get("gamma", _SELU_GAMMA))
    above = emit.op("Greater", node.inputs[0], emit.number(0, y))
    lower = emit.op("Add", y, emit.number(gamma * alpha, y))
    return (emit.op("Mul", dy, emit.op("Where", above, emit.number(gamma, y), lower)),)


def celu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = max(x, 0) + min(a (exp(x / a) - 1), 0);  dx = dy min(y / a + 1, 1)``."""
    y = node.outputs[0]
    alpha = float(node.attributes.get("alpha", 1.0))
    if alpha <= 0:
        emit.unsupported(node, f"alpha is {alpha}, expected a positive number")
    ratio = y if alpha == 1.0 else emit.op("Div", y, emit.number(alpha, y))
    slope = emit.op("Min", emit.op("Add", ratio, emit.number(1, y)), emit.number(1, y))
    return (emit.op("Mul", dy, slope),)


def softplus_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = log(1 + exp(x));  dx = dy sigmoid(x)``."""
    return (emit.op("Mul", dy, emit.op("Sigmoid", node.inputs[0])),)


def softsign_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x / (1 + |x|);  dx = dy (1 - |y|)^2``."""
    y = node.outputs[0]
    rest = emit.op("Sub", emit.number(1, y), emit.op("Abs", y))
    return (emit.op("Mul", dy, emit.op("Mul", rest, rest)),)


def mish_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x t, t = tanh(softplus(x));  dx = dy (t + x (1 - t^2) sigmoid(x))``."""
    (x,) = node.inputs
    t = emit.op("Tanh", emit.op("Softplus", x))
    bend = emit.op("Sub", emit.number(1, x), emit.op("Mul", t, t))
    rest = emit.op("Mul", emit.op("Mul", x, bend), emit.op("Sigmoid", x))
    return (emit.op("Mul", dy, emit.op("Add", t, rest)),)


def swish_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x s, s = sigmoid(a x);  dx = dy (s + a y (1 - s))``."""
    (x,) = node.inputs
    y = node.outputs[0]
    alpha = float(node.attributes.get("alpha", 1.0))
    s = emit.op("Sigmoid", x if alpha == 1.0 else emit.op("Mul", x, emit.number(alpha, x)))
    rest = emit.op("Mul", y, emit.op("Sub", emit.number(1, x), s))
    rest = rest if alpha == 1.0 else emit.op("Mul", rest, emit.number(alpha, x))
    return (emit.op("Mul", dy, emit.op("Add", s, rest)),)


def gelu_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = x P(x), P normal distribution, p its density;  dx = dy (P + x p)``; the tanh form likewise."""
    (x,) = node.inputs
    approximate = str(node.attributes.get("approximate", "none"))
    slope = _gelu_tanh_slope(emit, x) if approximate == "tanh" else _gelu_slope(emit, x)
    return (emit.op("Mul", dy, slope),)


def _gelu_slope(emit: Emit, x: str) -> str:
    erf = emit.op("Erf", emit.op("Mul", x, emit.number(math.sqrt(0.5), x)))
    half = emit.number(0.5, x)
    distribution = emit.op("Add", emit.op("Mul", erf, half), half)
    exponent = emit.op("Mul", x, emit.op("Mul", x, emit.number(-0.5, x)))
    scaled = emit.op("Mul", x, emit.number(1 / math.sqrt(2 * math.pi), x))
    return emit.op("Add", distribution, emit.op("Mul", scaled, emit.op("Exp", exponent)))


def _gelu_tanh_slope(emit: Emit, x: str) -> str:
    """``y = x (1 + t) / 2, t = tanh(u), u = c (x + k x^3);  slope = (1 + t) / 2 + x (1 - t^2) c (1 + 3 k x^2) / 2``."""
    c = math.sqrt(2 / math.pi)
    one = emit.number(1, x)
    square = emit.op("Mul", x, x)
    inner = emit.op("Add", emit.op("Mul", square, emit.number(c * _CUBIC, x)), emit.number(c, x))
    t = emit.op("Tanh", emit.op("Mul", x, inner))
    bend = emit.op("Sub", one, emit.op("Mul", t, t))
    steep = emit.op("Add", emit.op("Mul", square, emit.number(3 * c * _CUBIC, x)), emit.number(c, x))
    rest = emit.op("Mul", emit.op("Mul", x, bend), steep)
    return emit.op("Mul", emit.op("Add", emit.op("Add", t, one), rest), emit.number(0.5, x))
