"""VJP rule of Einsum: the gradient of a contraction is a contraction."""

from collections import Counter

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients


def einsum_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = sum of a b ... over indices;  da = sum of dy b ...`` over the indices that ``a`` does not have."""
    terms, result = _equation(emit, node)
    return tuple(
        _gradient(emit, node, dy, terms, result, index) if node.wants(index) else None
        for index in range(len(terms))
    )


def _equation(emit: Emit, node: Node) -> tuple[list[str], str]:
    """Read the index letters of each operand and of the result."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    if "." in equation:
        emit.unsupported(node, f"equation {equation!r} has an ellipsis")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        counts = Counter(left.replace(",", ""))
        result = "".join(sorted(letter for letter, count in counts.items() if count == 1))
    if any(len(set(term)) < len(term) for term in terms):
        emit.unsupported(node, f"equation {equation!r} repeats an index within one operand")
    return terms, result


def _gradient(emit: Emit, node: Node, dy: str, terms: list[str], result: str, index: int) -> str:
    own = terms[index]
    others = [
        (term, name) for at, (term, name) in enumerate(zip(terms, node.inputs, strict=True)) if at != index
    ]
    elsewhere = {*result, *(letter for term, _ in others for letter in term)}
    reached = "".join(letter for letter in own if letter in elsewhere)
    left = ",".join([result, *(term for term, _ in others)])
    dx = emit.op("Einsum", dy, *(name for _, name in others), equation=f"{left}->{reached}")
    sizes = {
        letter: size
        for term, name in [*others, (result, dy)]
        for letter, size in zip(term, emit.shape(name), strict=True)
        if size != 1
    }
    emit.graph.narrow(dx, tuple(sizes.get(letter, 1) for letter in reached))
    alone = [axis for axis, letter in enumerate(own) if letter not in elsewhere]
    if alone:  # an index that the operand alone has was summed over: its gradient is the same along it
        dx = emit.expand_like(emit.op("Unsqueeze", dx, emit.ints(alone)), node.inputs[index])
    return dx
