"""The bias of a piecewise linear network at one input, from its parameters.

Where the input's activation region is fixed, ``F_c(x) = <g, x> + b_c`` (instance-wise linearisation: Li et al.,
arXiv 2310.16295). This is the second route to ``b_c``: every operator adds the constant part of its own output,
paired with the cotangent there, ``b_c = sum over operators of <dF_c / dy, constant part of y>``. The first route,
``F_c - <g, x>``, never looks at a bias, so that the two agree only if forward and backward pass fit together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.autodiff.rules.activation import above_bound, clip_bounds
from clearweight.exporter.explain.between import Passed, nodes_between

_LONG = 2**14  # elements of a row from which on it costs more to copy than to sum


@dataclass(frozen=True)
class Term:
    """One part of a sum: ``features`` [N, K] times ``weights`` [K]."""

    features: str
    weights: str


# How one operator adds to the bias; no terms where it adds nothing.
Offset = Callable[[Emit, Passed, Mapping[str, str]], list[Term]]
# Whether a use of an operator is linear in its active inputs.
Condition = Callable[[Emit, Passed], bool]


def affine_nodes(emit: Emit, x: str, logits: str) -> list[Passed] | None:
    """List the nodes between input and logits if the network is piecewise linear; None if it is not."""
    kept = nodes_between(emit, x, logits)
    batch = emit.shape(x)[0]
    for entry in kept:
        linear = PIECEWISE_LINEAR.get(entry.node.key.op_type)
        shape = emit.graph.type(entry.node.outputs[0]).shape
        if linear is None or not linear(emit, entry) or not shape or shape[0] != batch:
            return None
    return kept


def linear_bias(emit: Emit, nodes: list[Passed], cotangents: Mapping[str, str]) -> list[Term]:
    """List the terms of ``b_c`` from the cotangents of the nodes' outputs; none if nothing has a constant part."""
    terms = []
    for entry in nodes:
        offset = OFFSETS.get(entry.node.key.op_type)
        if offset is not None and entry.node.outputs[0] in cotangents:
            terms += offset(emit, entry, cotangents)
    return terms


def ones_term(emit: Emit, features: str) -> Term:
    """Return the plain sum of [N, K] over K; the ones are repeated when the graph is loaded.

    A long row is summed by itself, where a short one would only be a node more.
    """
    (width,) = emit.sizes(features, [1], "the completeness error")
    if width > _LONG:
        return _summed(emit, features)
    return Term(features, emit.op("Expand", emit.number([1.0], features), emit.ints([width])))


def difference(emit: Emit, whole: Term, parts: Sequence[Term]) -> str:
    """Subtract terms from a first one: one number per row.

    All at once, as few operators as there can be; a product with a vector is several times slower. Features that occur
    twice are read once.
    """
    weights = {whole.features: whole.weights}
    for part in parts:
        negative = emit.op("Neg", part.weights)
        known = weights.get(part.features)
        weights[part.features] = negative if known is None else emit.op("Add", known, negative)
    every = emit.op("Concat", *weights, axis=1)
    products = emit.op("Mul", every, emit.op("Concat", *weights.values(), axis=0))
    return emit.sum(products, [1], keepdims=False)


# Conditions --------------------------------------------------------------------------------------------


def _always(_emit: Emit, _entry: Passed) -> bool:
    return True


def _one_active(_emit: Emit, entry: Passed) -> bool:
    """Accept a product of which one factor alone depends on the input."""
    return sum(entry.active) == 1


def _first_active(_emit: Emit, entry: Passed) -> bool:
    """Accept a quotient by a constant, a convolution with constant weights, a shape operator."""
    return entry.active[0] and not any(entry.active[1:])


def _all_active(_emit: Emit, entry: Passed) -> bool:
    return all(entry.active)


def _floating(emit: Emit, entry: Passed) -> bool:
    return all(
        np.issubdtype(emit.graph.type(name).dtype, np.floating)
        for name in (entry.node.inputs[0], entry.node.outputs[0])
    )


PIECEWISE_LINEAR: Mapping[str, Condition] = {
    "Add": _always,
    "AveragePool": _always,
    "BatchNormalization": _first_active,
    "Cast": _floating,
    "Clip": _first_active,
    "Concat": _all_active,
    "Conv": _first_active,
    "ConvTranspose": _first_active,
    "Div": _first_active,
    "Dropout": _first_active,
    "Flatten": _always,
    "Gemm": _one_active,
    "GlobalAveragePool": _always,
    "Identity": _always,
    "LeakyRelu": _always,
    "MatMul": _one_active,
    "MaxPool": _always,
    "Mul": _one_active,
    "Pad": _first_active,
    "ReduceMean": _first_active,
    "ReduceSum": _first_active,
    "Relu": _always,
    "Reshape": _first_active,
    "Slice": _first_active,
    "Squeeze": _first_active,
    "Sub": _always,
    "Transpose": _always,
    "Unsqueeze": _first_active,
}

# Constant parts ----------------------------------------------------------------------------------------


def channel_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair the bias of a convolution with its cotangent, summed over space."""
    bias = entry.node.input(2)
    return [] if bias is None else _over_space(emit, cotangents[entry.node.outputs[0]], bias)


def gemm_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair ``beta c`` with the cotangent."""
    bias = entry.node.input(2)
    if bias is None or entry.active[2]:
        return []
    beta = float(entry.node.attributes.get("beta", 1.0))
    scaled = bias if beta == 1.0 else emit.op("Mul", bias, emit.number(beta, bias))
    return _paired(emit, cotangents[entry.node.outputs[0]], scaled)


def add_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair a constant summand with the cotangent."""
    if all(entry.active):
        return []
    return _paired(emit, cotangents[entry.node.outputs[0]], entry.node.inputs[entry.active.index(False)])


def sub_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair a constant minuend or the negative of a constant subtrahend with the cotangent."""
    if all(entry.active):
        return []
    constant = entry.node.inputs[entry.active.index(False)]
    signed = emit.op("Neg", constant) if entry.active[0] else constant
    return _paired(emit, cotangents[entry.node.outputs[0]], signed)


def normalization_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair ``b - s m / sqrt(v + eps)`` with the cotangent, summed over space."""
    _, scale, bias, mean, variance = entry.node.inputs
    epsilon = emit.number(float(entry.node.attributes.get("epsilon", 1e-5)), variance)
    deviation = emit.op("Sqrt", emit.op("Add", variance, epsilon))
    shift = emit.op("Sub", bias, emit.op("Div", emit.op("Mul", scale, mean), deviation))
    return _over_space(emit, cotangents[entry.node.outputs[0]], shift)


def clip_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair the bound with the cotangent wherever the input was clipped."""
    x, y = entry.node.inputs[0], entry.node.outputs[0]
    bounds = clip_bounds(emit, entry.node)
    if bounds is not None and emit.costs.keeps_blocks("clip", emit.graph.type(y).shape or ()):
        return _blocked_clip_offset(emit, entry, cotangents, bounds)
    bound = emit.op("Where", emit.op("Equal", x, y), emit.number(0, y), y)
    return [_summed(emit, emit.op("Mul", cotangents[y], bound))]


def _blocked_clip_offset(
    emit: Emit, entry: Passed, cotangents: Mapping[str, str], bounds: tuple[float, float]
) -> list[Term]:
    """Derive it from what the backward pass has at hand: the cotangent before, between and behind the two bounds.

    Only sums are added, and those stay in the blocked layout; reading x would keep Clip out of the convolution. The
    last of them is the one that the bias of a convolution before the Clip asks for.
    """
    x, y = entry.node.inputs[0], entry.node.outputs[0]
    above = above_bound(emit, y, bounds[0], cotangents[y])
    (channels,) = emit.sizes(y, [1], "the offset of a clip")
    return [
        term
        for value, weight in (
            (cotangents[y], bounds[0]),
            (above, bounds[1] - bounds[0]),
            (cotangents[x], -bounds[1]),
        )
        if weight != 0.0
        for term in _over_space(emit, value, emit.filled([channels], weight))
    ]


def pad_offset(emit: Emit, entry: Passed, cotangents: Mapping[str, str]) -> list[Term]:
    """Pair the fill value with the cotangent on the border."""
    value = entry.node.input(2)
    given = None if value is None else emit.graph.constant(value)
    mode = str(entry.node.attributes.get("mode", "constant"))
    if value is None or mode != "constant" or (given is not None and not given.any()):
        return []
    x, y = entry.node.inputs[0], entry.node.outputs[0]
    inside = emit.op("Expand", emit.number(1, x), emit.shape_of(x))
    zero = emit.number(0, y)
    border = emit.op(
        "Sub", emit.number(1, y), emit.op("Pad", inside, entry.node.inputs[1], zero, *entry.node.inputs[3:])
    )
    return [_summed(emit, emit.op("Mul", emit.op("Mul", cotangents[y], border), value))]


OFFSETS: Mapping[str, Offset] = {
    "Add": add_offset,
    "BatchNormalization": normalization_offset,
    "Clip": clip_offset,
    "Conv": channel_offset,
    "ConvTranspose": channel_offset,
    "Gemm": gemm_offset,
    "Pad": pad_offset,
    "Sub": sub_offset,
}


def _over_space(emit: Emit, dy: str, weights: str) -> list[Term]:
    """Pair [C] with a cotangent [N, C, space...] summed over space."""
    sums, factor = emit.spatial_sums(dy)
    if factor != 1:
        weights = emit.op("Mul", weights, emit.number(float(factor), weights))
    return [Term(features, weights) for features in sums]


def _paired(emit: Emit, dy: str, constant: str) -> list[Term]:
    """Pair a constant with a cotangent, by a product of matrices where the constant is one row."""
    shape = emit.shape(constant)
    if emit.rank(dy) == 2 and emit.shape(dy)[1:] == shape[-1:] and all(size == 1 for size in shape[:-1]):
        return [Term(dy, emit.reshape(constant, shape[-1:]))]
    return [_summed(emit, emit.op("Mul", dy, constant))]


def _summed(emit: Emit, product: str) -> Term:
    """Sum everything but the batch."""
    total = emit.sum(product, range(1, emit.rank(product)), keepdims=False)
    return Term(emit.op("Unsqueeze", total, emit.ints([1])), emit.number([1], product))
