"""What one operator does with relevance; ``relevance`` says which operator follows which rule.

A denominator z is kept from zero by ``z + epsilon sign(z)`` with sign(0) = 1, as in Captum and zennit.
"""

from dataclasses import replace

import numpy as np

from clearweight.exporter.autodiff import RULES, Emit, Node
from clearweight.exporter.autodiff.walker import Gradients, Rule
from clearweight.exporter.explain.errors import NotApplicableError

STABILIZER = 1e-6  # zennit's

# Operators whose output is never negative, and those that keep what their inputs are.
_POSITIVE = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softplus"})
_KEEPING = frozenset(
    {
        "Add",
        "AveragePool",
        "Concat",
        "Dropout",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "ReduceMean",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


def epsilon_rule(epsilon: float) -> Rule:
    """``R_i = a_i (dz/da)^T (R / (z + epsilon sign z))``, with z the operator's own output, bias included."""

    def rule(emit: Emit, node: Node, r: str, /) -> Gradients:
        share = emit.op("Div", r, stabilized(emit, node.outputs[0], epsilon))
        back = RULES[node.key](emit, node, share)
        return tuple(
            emit.op("Mul", a, part) if part is not None and node.wants(index) else None
            for index, (a, part) in enumerate(zip(node.inputs, back, strict=True))
        )

    return rule


def zplus_rule(emit: Emit, node: Node, r: str, /) -> Gradients:
    """``R_i = sum_j max(a_i w_ij, 0) / z_j R_j``, z_j the sum of these positive parts and of a positive bias.

    Positive inputs go through the positive weights; negative ones, which the paper rules out, through the negative
    weights, as in zennit (alpha 1, beta 0). Where the input is rectified that second half is left out.
    """
    index, a, w = _data_and_weight(node)
    bias = node.input(2)
    raised = None if bias is None else emit.op("Relu", bias)
    if _never_negative(emit, a):
        parts = [_with_inputs(node, index, a, emit.op("Relu", w), raised)]
    else:
        low_a, low_w = (emit.op("Min", value, emit.number(0, value)) for value in (a, w))
        parts = [
            _with_inputs(node, index, emit.op("Relu", a), emit.op("Relu", w), raised),
            _with_inputs(node, index, low_a, low_w, None),
        ]
    z = _added(emit, [_forward(emit, part) for part in parts])
    # Positive parts add up to nothing below zero, so the stabiliser needs no sign.
    share = emit.op("Div", r, emit.op("Add", z, emit.number(STABILIZER, z)))
    shares = []
    for part in parts:
        back = RULES[node.key](emit, part, share)[index]
        if back is not None:
            shares.append(emit.op("Mul", part.inputs[index], back))
    return _only(node, index, _added(emit, shares))


def flat_rule(emit: Emit, node: Node, r: str, /) -> Gradients:
    """``R_i = sum_j R_j / (number of inputs of j)``: spread evenly over what a layer sees, whatever its weights."""
    index, a, w = _data_and_weight(node)
    ones_w = _ones(emit, w)
    seen = _forward(emit, _with_inputs(node, index, _ones(emit, a), ones_w, None))
    share = emit.op("Div", r, emit.op("Add", seen, emit.number(STABILIZER, seen)))
    return _only(node, index, RULES[node.key](emit, _with_inputs(node, index, a, ones_w, None), share)[index])


def pass_rule(emit: Emit, node: Node, r: str, /) -> Gradients:
    """``R_x = R_y``; a product of two values that both depend on the input is refused, and so is c / x."""
    if sum(node.wanted) != 1 or (node.key.op_type == "Div" and not node.wants(0)):
        raise NotApplicableError(
            f"There is no relevance rule for {node}: it is no constant factor of one value that is explained."
        )
    emit.straight_through |= node.key.op_type == "QuantizeLinear"
    return tuple(r if wanted else None for wanted in node.wanted)


def stabilized(emit: Emit, z: str, epsilon: float) -> str:
    """Return ``z + epsilon sign(z)`` with sign(0) = 1."""
    below = emit.op("Less", z, emit.number(0, z))
    return emit.op("Add", z, emit.op("Where", below, emit.number(-epsilon, z), emit.number(epsilon, z)))


def _data_and_weight(node: Node) -> tuple[int, str, str]:
    index = 0 if node.wants(0) else 1
    return index, node.inputs[index], node.inputs[1 - index]


def _with_inputs(node: Node, index: int, a: str, w: str, bias: str | None) -> Node:
    """Return the layer with other numbers."""
    inputs = ((a, w) if index == 0 else (w, a)) + (() if bias is None else (bias,))
    return replace(node, inputs=inputs, wanted=(index == 0, index == 1, False)[: len(inputs)])


def _forward(emit: Emit, node: Node) -> str:
    return emit.op(node.key.op_type, *node.inputs, **node.attributes)


def _ones(emit: Emit, value: str) -> str:
    """Return ones in the shape of a value, one row where the batch is free; a runtime repeats them when it loads."""
    sizes = [size if isinstance(size, int) else 1 for size in emit.shape(value)]
    return emit.op("Expand", emit.number(np.ones([1] * len(sizes)), value), emit.ints(sizes))


def _added(emit: Emit, values: list[str]) -> str:
    return values[0] if len(values) == 1 else emit.op("Add", *values)


def _only(node: Node, index: int, relevance: str | None) -> Gradients:
    return tuple(relevance if at == index else None for at in range(len(node.inputs)))


def _never_negative(emit: Emit, value: str) -> bool:
    """Tell whether a value is rectified on every way that leads to it."""
    made_by = {name: node for node in emit.graph.nodes for name in node.outputs}
    asked = [value]
    seen: set[str] = set()
    while asked:
        name = asked.pop()
        if name in seen:
            continue
        seen.add(name)
        node = made_by.get(name)
        if node is None:
            return False
        if node.key.op_type in _POSITIVE or _clipped_from_zero(emit, node):
            continue
        if node.key.op_type not in _KEEPING:
            return False
        data = node.inputs if node.key.op_type in {"Add", "Concat"} else node.inputs[:1]
        asked.extend(data)
    return True


def _clipped_from_zero(emit: Emit, node: Node) -> bool:
    low = node.input(1) if node.key.op_type == "Clip" else None
    bound = None if low is None else emit.graph.constant(low)
    return bound is not None and float(np.min(bound.astype(np.float64))) >= 0
