"""Which nodes of a network stand in the way of its gradient: every one of them, not only the first.

The walk of ``pull_back`` is taken with rules that never refuse: where one would, the refusal is noted and zeros of
the right shape go on, so that what lies before it is seen, too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from clearweight.exporter.autodiff import (
    NON_DIFFERENTIABLE,
    RULES,
    AutodiffError,
    Emit,
    Node,
    OpKey,
)
from clearweight.exporter.autodiff.unsupported import UNSUPPORTED, reason
from clearweight.exporter.autodiff.walker import EveryOutput, Gradients, Rule
from clearweight.exporter.errors import ExporterError
from clearweight.exporter.explain.classifier import open_classifier

_STANDARD = frozenset({"", "ai.onnx"})


@dataclass(frozen=True)
class Obstacle:
    """One node that the gradient cannot pass, and why."""

    node: str
    operator: str
    reason: str


def obstacles(model: onnx.ModelProto) -> list[Obstacle]:
    """List every node between the input and the logits that has no rule, or whose use its rule does not cover.

    Parameters
    ----------
    model : one that ``build`` takes

    Returns
    -------
    In the graph's order; empty where the gradient can be taken. Where no rule is missing and still no gradient
    reaches the input, the operators that stop it.

    Raises
    ------
    NotApplicableError
        The model is no classifier with one input.
    """
    emit, classifier = open_classifier(model)
    noted: dict[str, Obstacle] = {}
    try:
        reached = classifier.cotangents(emit, [classifier.x], _Noting(noted))
    except AutodiffError as error:  # not a matter of one operator, such as two gradients into one node
        found = list(noted.values())
        return [*found, Obstacle("", "", str(error))]
    except ExporterError:
        reached = {}
    order = {node.name: place for place, node in enumerate(emit.graph.nodes)}
    if not noted and classifier.x not in reached:
        return _stops(emit, classifier.x, classifier.logits)
    return sorted(noted.values(), key=lambda obstacle: order.get(obstacle.node, len(order)))


def without_rule(model: onnx.ModelProto) -> list[Obstacle]:
    """List the nodes between any input and any output whose operator has no rule in any version, by name alone.

    For models that cannot be opened for explaining: their types and opset do not matter here.
    """
    known = {key.op_type for key in (*RULES, *NON_DIFFERENTIABLE)}
    parameters = {tensor.name for tensor in model.graph.initializer}
    active = {entry.name for entry in model.graph.input} - parameters
    behind = {entry.name for entry in model.graph.output}
    for node in reversed(model.graph.node):
        if behind.intersection(node.output):
            behind.update(node.input)
    found = []
    for node in model.graph.node:
        if not active.intersection(node.input):
            continue
        active.update(name for name in node.output if name)
        if behind.intersection(node.output) and (node.domain not in _STANDARD or node.op_type not in known):
            operator = node.op_type if node.domain in _STANDARD else f"{node.domain}::{node.op_type}"
            why = UNSUPPORTED.get(operator, "nobody has written one yet")
            found.append(Obstacle(node.name or node.output[0], operator, f"no VJP rule: {why}"))
    return found


class _Noting(Mapping[OpKey, Rule]):
    """The rule table, with a rule for every operator: one that notes the refusal where the table's own refuses."""

    def __init__(self, noted: dict[str, Obstacle]) -> None:
        self._noted = noted

    def __getitem__(self, key: OpKey) -> Rule:
        own = RULES.get(key)

        def rule(emit: Emit, node: Node, dy: str) -> Gradients:
            try:
                if own is None:
                    self._note(node, f"no VJP rule: {reason(key)}")
                elif not isinstance(own, EveryOutput) and any(node.cotangents[1:]):
                    self._note(node, "a gradient reaches a further output, its rule covers the first alone")
                else:
                    return own(emit, node, dy)
            except AutodiffError as error:
                self._note(node, str(error))
            except Exception as error:  # noqa: BLE001  # zeros in place of a gradient may have led a rule astray
                self._note(node, f"{type(error).__name__}: {error}")
            return tuple(
                _zeros(emit, name) if node.wants(index) else None for index, name in enumerate(node.inputs)
            )

        return EveryOutput(rule)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, OpKey)

    def __iter__(self) -> Iterator[OpKey]:
        return iter(RULES)

    def __len__(self) -> int:
        return len(RULES)

    def _note(self, node: Node, reason: str) -> None:
        self._noted.setdefault(node.name, Obstacle(node.name, str(node.key), reason))


def _zeros(emit: Emit, value: str) -> str | None:
    """Return zeros of the shape and type of a value; None where it is not known what to multiply."""
    try:
        return emit.op("Mul", value, emit.number(0, value))
    except Exception:  # noqa: BLE001  # a type that onnx cannot infer or multiply: the walk ends here
        return None


def _stops(emit: Emit, x: str, logits: str) -> list[Obstacle]:
    """List the operators on the way from input to logits whose derivative is zero or does not exist."""
    behind = {logits}
    for node in reversed(emit.graph.nodes):
        if behind.intersection(node.outputs):
            behind.update(node.inputs)
    active, found = {x}, []
    for node in emit.graph.nodes:
        if active.intersection(node.inputs):
            active.update(name for name in node.outputs if name)
            if node.key in NON_DIFFERENTIABLE and behind.intersection(node.outputs):
                found.append(
                    Obstacle(
                        node.name, str(node.key), "its derivative is zero or does not exist, by declaration"
                    )
                )
    return found
