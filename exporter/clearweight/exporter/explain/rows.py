"""The network on further rows of the same run: path points, noisy copies, one copy for each class.

The rows go through a second copy of the network's operators as one batch, whatever their number; its parameters are
shared, and the model's own outputs stay those of the rows that were asked for. Rows that only serve to explain are
differentiated, and only they: putting the plain rows into the same batch would differentiate them for nothing.
"""

from clearweight.exporter.autodiff import Emit, Shape, ValueType
from clearweight.exporter.autodiff.node import values_read
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.network_part import behind, renamed


def row_shape(emit: Emit, classifier: Classifier, method: str) -> list[int]:
    """Return the shape of one input row.

    Raises
    ------
    NotApplicableError
        The model's batch is fixed, so that no other number of rows can go through.
    UnknownShapeError
        Another axis is free.
    """
    x = classifier.x
    if isinstance(emit.shape(x)[0], int):
        raise NotApplicableError(
            f"Input {x!r} has a fixed batch of {emit.shape(x)[0]}; {method} runs further rows and needs a free one."
        )
    return emit.sizes(x, range(1, emit.rank(x)), method)


def flatten_steps(emit: Emit, value: str, symbol: str) -> str:
    """Make one batch of [S, N, ...]: [S N, ...], the steps outermost; ``symbol`` names its size."""
    rest = emit.sizes(value, range(2, emit.rank(value)), "a batch of several rows for each input")
    return emit.graph.narrow(emit.op("Reshape", value, emit.ints([-1, *rest])), (symbol, *rest))


def by_step(emit: Emit, value: str, steps: str) -> str:
    """Take [S N, ...] apart into [S, -1]: one line for each step; ``steps`` is S as INT64 [1]."""
    return emit.op("Reshape", value, emit.op("Concat", steps, emit.ints([-1]), axis=0))


def repeat(emit: Emit, value: str, steps: str, symbol: str) -> str:
    """Repeat the rows of [N, ...] for every step: [S N, ...]."""
    ones = emit.ints([1] * emit.rank(value))
    spread = emit.op(
        "Expand", emit.op("Unsqueeze", value, emit.ints([0])), emit.op("Concat", steps, ones, axis=0)
    )
    emit.graph.narrow(spread, (None, *emit.shape(value)))
    return flatten_steps(emit, spread, symbol)


def run_again(emit: Emit, classifier: Classifier, rows: str, prefix: str) -> str:
    """Add a copy of the network that reads ``rows`` instead of the input.

    Parameters
    ----------
    rows : [M, ...] with a symbol for M
    prefix : of the names of the copy's values

    Returns
    -------
    the copy's logits, [M, C]
    """
    part = behind(emit, classifier.x, classifier.logits)
    moved, nodes = {part.source}, []
    for node in part.nodes:
        if moved & values_read(node):
            moved.update(name for name in node.output if name)
            nodes.append(node)
    batch, symbol = emit.shape(classifier.x)[0], emit.shape(rows)[0]
    names = {name: f"{prefix}{name}" for name in moved} | {part.source: rows}
    types = {names[n]: _over(emit.graph.type(n), batch, symbol) for n in moved if n != part.source}
    emit.graph.add_nodes([renamed(node, names, prefix) for node in nodes], types)
    return names[part.result]


def _over(value: ValueType, batch: object, symbol: int | str | None) -> ValueType:
    """Return the type of a value for another batch; what may depend on the batch in another way is unknown."""
    if value.shape is None:
        return value
    shape: Shape = tuple(
        dim if isinstance(dim, int) else symbol if dim == batch and dim is not None else None
        for dim in value.shape
    )
    return ValueType(value.element, shape)
