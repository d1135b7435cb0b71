"""One operator of a graph, as rules see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from clearweight.exporter.autodiff.op_key import OpKey


@dataclass(frozen=True)
class Node:
    """One operator: names of its inputs and outputs ("" = left out) and its attributes.

    ``wanted`` has one entry per input: whether anyone asks for the gradient to it. ``cotangents`` has one per
    output: the gradient that arrives there, None where there is none. Both are filled by the walker. ``captured``
    names what the operator's subgraphs read from the graph round them.
    """

    key: OpKey
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    wanted: tuple[bool, ...] = field(default=())
    cotangents: tuple[str | None, ...] = field(default=())
    captured: frozenset[str] = field(default=frozenset())

    def input(self, index: int) -> str | None:
        """Return the name of an input, None where it is left out."""
        return self.inputs[index] or None if index < len(self.inputs) else None

    def wants(self, index: int) -> bool:
        """Tell whether the gradient to this input is asked for."""
        return index < len(self.wanted) and self.wanted[index]

    def __str__(self) -> str:
        return f"{self.key} (node {self.name!r})"


def read_attributes(proto: onnx.NodeProto) -> dict[str, Any]:
    """Read the attributes of a node, text as ``str``."""
    found = {entry.name: onnx.helper.get_attribute_value(entry) for entry in proto.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def subgraphs(proto: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node holds as attributes (Loop, Scan, If)."""
    return [
        graph
        for entry in proto.attribute
        for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs)
    ]


def values_read(proto: onnx.NodeProto) -> set[str]:
    """Name every value that a node reads, also what its subgraphs take from the graph round them."""
    read = {name for name in proto.input if name}
    for graph in subgraphs(proto):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own.update(name for node in graph.node for name in node.output)
        inner = {name for node in graph.node for name in values_read(node)}
        read |= (inner | {value.name for value in graph.output}) - own
    return read
