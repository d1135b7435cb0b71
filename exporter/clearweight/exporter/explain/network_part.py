"""The part of a network behind one value, to be run again on other rows.

No operator is differentiated here, so every one that the runtime knows is allowed, recurrent ones and control flow
included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx

from clearweight.exporter.autodiff import Emit, Shape, ValueType
from clearweight.exporter.autodiff.node import subgraphs, values_read
from clearweight.exporter.explain.errors import NotApplicableError


@dataclass(frozen=True, eq=False)
class NetworkPart:
    """What computes ``result`` from ``source``.

    Attributes
    ----------
    nodes : in their order, those that do not depend on ``source`` (constants, unpacked weights) included
    parameters : initializers that they read
    types : of the nodes' outputs, for any number of rows
    largest : elements of the largest value on the way, for one row
    """

    source: str
    result: str
    nodes: Sequence[onnx.NodeProto]
    parameters: Sequence[str]
    types: Mapping[str, ValueType]
    largest: int


def behind(emit: Emit, source: str, result: str) -> NetworkPart:
    """Find the part of the graph that computes ``result`` from ``source`` alone.

    Raises
    ------
    NotApplicableError
        Part of the result passes ``source`` by, or it does not depend on it.
    """
    graph = emit.graph
    needed, kept, parameters = {result}, [], []
    for node in reversed(graph.protos):
        if source not in node.output and any(name in needed for name in node.output):
            kept.append(node)
            needed |= values_read(node)
    if source not in needed or source == result:
        raise NotApplicableError(f"The output {result!r} does not depend on {source!r}.")
    made = {name for node in kept for name in node.output if name}
    for name in sorted(needed - made - {source, ""}):
        if not graph.is_parameter(name):
            raise NotApplicableError(
                f"The output {result!r} depends on {name!r} other than through {source!r}: it cannot be computed "
                "from that value alone."
            )
        parameters.append(name)
    types = {name: without_batch(graph.type(name)) for name in made}
    largest = max(_row_size(graph.type(name).shape) for name in _dependent(kept[::-1], source))
    return NetworkPart(source, result, kept[::-1], parameters, types, largest)


def without_batch(value: ValueType) -> ValueType:
    """Forget every dimension that is no number: other rows come in other counts."""
    if value.shape is None:
        return value
    return ValueType(value.element, tuple(dim if isinstance(dim, int) else None for dim in value.shape))


def renamed(node: onnx.NodeProto, names: Mapping[str, str], prefix: str) -> onnx.NodeProto:
    """Copy a node under a name of its own; the values in ``names`` are called otherwise, in its subgraphs too."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if node.name and not node.name.startswith(prefix):
        copy.name = f"{prefix}{node.name}"
    _rename(copy, names)
    return copy


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for listed in (node.input, node.output):
        for index, name in enumerate(listed):
            listed[index] = names.get(name, name)
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own.update(name for inner in graph.node for name in inner.output)
        visible = {name: new for name, new in names.items() if name not in own}
        for inner in graph.node:
            _rename(inner, visible)
        for value in graph.output:
            value.name = visible.get(value.name, value.name)


def _dependent(nodes: Sequence[onnx.NodeProto], source: str) -> set[str]:
    """Collect what depends on ``source``, itself included."""
    found = {source}
    for node in nodes:
        if found & values_read(node):
            found.update(name for name in node.output if name)
    return found


def _row_size(shape: Shape | None) -> int:
    return prod(dim for dim in shape[1:] if isinstance(dim, int)) if shape else 1
