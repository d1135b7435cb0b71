"""The operators between two values: what a gradient, a relevance or a linear map has to pass."""

from dataclasses import dataclass

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, Emit, Node


@dataclass(frozen=True)
class Passed:
    """A node on the way and which of its inputs depend on the source."""

    node: Node
    active: tuple[bool, ...]


def nodes_between(emit: Emit, source: str, result: str) -> list[Passed]:
    """List the nodes through which ``result`` depends on ``source``, in order; those that stop gradients left out."""
    active = {source}
    candidates = []
    for node in emit.graph.nodes:
        marks = tuple(name in active for name in node.inputs)
        if any(marks) and node.key not in NON_DIFFERENTIABLE:
            active.update(name for name in node.outputs if name)
            candidates.append(Passed(node, marks))
    needed, kept = {result}, []
    for entry in reversed(candidates):
        if any(name in needed for name in entry.node.outputs):
            needed.update(name for name, mark in zip(entry.node.inputs, entry.active, strict=True) if mark)
            kept.append(entry)
    return kept[::-1]
