"""Reverse mode over an ONNX graph: the walker that knows no operator.

Cotangents flow from the outputs backwards through the nodes that lie on a path to a wanted value; what each
node does to them is one row of the rule table (``rules``). Broadcasting is undone here and nowhere else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clearweight.exporter.autodiff.broadcasting import sum_to
from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.errors import UnsupportedOpError
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.op_key import OpKey
from clearweight.exporter.autodiff.unsupported import reason

Gradients = tuple[str | None, ...]


class Rule(Protocol):
    """One VJP rule."""

    def __call__(self, emit: Emit, node: Node, dy: str, /) -> Gradients:
        """Return one entry per input of the node: its gradient, or None for no gradient.

        An entry may have the shape of the node's output; the walker sums it back to its input's.
        """
        ...


@dataclass(frozen=True)
class EveryOutput:
    """Marks a rule that looks at the gradients of all outputs (``node.cotangents``), not of the first alone."""

    rule: Rule

    def __call__(self, emit: Emit, node: Node, dy: str, /) -> Gradients:
        """Apply the rule."""
        return self.rule(emit, node, dy)


def pull_back(
    emit: Emit,
    cotangents: Mapping[str, str],
    wanted: Collection[str],
    rules: Mapping[OpKey, Rule],
    non_differentiable: Collection[OpKey],
) -> dict[str, str]:
    """Append the backward pass to a graph.

    Parameters
    ----------
    cotangents : value -> its cotangent; both are values of the graph, of equal shape
    wanted : values whose cotangents are asked for: inputs, intermediate values or parameters
    rules : what each operator does to a cotangent
    non_differentiable : operators that stop it (their derivative is zero or undefined by declaration)

    Returns
    -------
    value -> cotangent, for every value that lies between ``cotangents`` and ``wanted``, both included. A
    wanted value that no path reaches is missing: its gradient is zero.

    Raises
    ------
    UnsupportedOpError
        A node on the path has an operator in neither table, or in a use that its rule does not cover.
    """
    for value in wanted:
        emit.graph.type(value)  # an unknown name fails here, by name
    nodes = list(emit.graph.nodes)
    active = _reached_from(wanted, nodes, non_differentiable)
    found = dict(cotangents)
    for node in reversed(nodes):
        marks = tuple(name in active for name in node.inputs)
        arriving = tuple(found.get(name) if name in active else None for name in node.outputs)
        dy = next((name for name in arriving if name is not None), None)
        if dy is None or not (any(marks) or node.captured & active):
            continue
        rule = _rule(node, rules)
        if dy != arriving[0] or sum(name is not None for name in arriving) > 1:
            _require_every_output(node, rule)
        gradients = rule(emit, replace(node, wanted=marks, cotangents=arriving), dy)
        for name, dx in zip(node.inputs, gradients, strict=True):
            if dx is not None and name in active:
                summed = sum_to(emit, dx, name)
                found[name] = emit.add(found[name], summed) if name in found else summed
    return {name: cotangent for name, cotangent in found.items() if name in active}


def _reached_from(
    wanted: Collection[str], nodes: Sequence[Node], non_differentiable: Collection[OpKey]
) -> set[str]:
    """Collect the values that depend on a wanted one other than through an operator that stops gradients."""
    reached = set(wanted)
    for node in nodes:
        reads = {name for name in node.inputs if name} | node.captured
        if node.key not in non_differentiable and reads & reached:
            reached.update(name for name in node.outputs if name)
    return reached


def _require_every_output(node: Node, rule: Rule) -> None:
    if not isinstance(rule, EveryOutput):
        raise UnsupportedOpError(
            f"A gradient reaches a further output of {node}, expected only its first one."
        )


def _rule(node: Node, rules: Mapping[OpKey, Rule]) -> Rule:
    if node.key in rules:
        return rules[node.key]
    versions = sorted(key.since_version for key in rules if key.op_type == node.key.op_type)
    known = f" Rules exist for its versions {', '.join(map(str, versions))}." if versions else ""
    raise UnsupportedOpError(
        f"No VJP rule for {node}: {reason(node.key)}.{known} "
        "Occlusion and RISE need no gradient and explain the model all the same."
    )
