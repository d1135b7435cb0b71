"""Names in a quantized graph: what the float model calls a value is called so here, too.

onnxruntime's quantizer keeps a name for the value before its rounding, drops that of an activation which the rounding
clips anyway, and puts suffixes on parameters. Here a name means the same in both models: parameter ``conv1.weight``
is the integers stored for it, and value ``relu1`` is what the next operator reads, so that a feature map named in a
recipe is found and holds what it is expected to hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

_PARAMETER_SUFFIX = "_quantized"
_DEQUANTIZE, _QUANTIZE = "DequantizeLinear", "QuantizeLinear"


@dataclass(frozen=True, eq=False)
class Rounding:
    """One value rounded to integers and back: ``value -> quantized -> rounded``."""

    quantize: onnx.NodeProto
    dequantize: onnx.NodeProto

    @property
    def value(self) -> str:
        """The value before it is rounded."""
        return self.quantize.input[0]

    @property
    def rounded(self) -> str:
        """The value that is read in its place."""
        return self.dequantize.output[0]


def roundings(graph: onnx.GraphProto) -> list[Rounding]:
    """List every QuantizeLinear with the DequantizeLinear that reads it, in the graph's order."""
    readers = {node.input[0]: node for node in graph.node if node.op_type == _DEQUANTIZE}
    return [
        Rounding(node, readers[node.output[0]])
        for node in graph.node
        if node.op_type == _QUANTIZE and node.output[0] in readers
    ]


def name_as_float(graph: onnx.GraphProto) -> None:
    """Rename values and parameters of a freshly quantized graph, in place.

    Parameters: ``w`` (integers), ``w.scale``, ``w.zero_point``; the float tensor that operators read is
    ``w.dequantized``. Values: ``v`` after rounding, ``v.quantized`` in integers; before rounding the name of the
    operator that makes it, or ``v.exact`` where that is ``v`` itself. The input keeps its name, and is read as
    ``input.rounded``.
    """
    parameters = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input}
    producer = {name: node for node in graph.node for name in node.output}
    wanted: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == _DEQUANTIZE and node.input[0] in parameters:
            own = node.input[0].removesuffix(_PARAMETER_SUFFIX)
            wanted[node.input[0]] = own
            wanted[node.output[0]] = f"{own}.dequantized"
            _settings(wanted, node, own, parameters)
    for entry in roundings(graph):
        value = entry.value
        wanted[entry.quantize.output[0]] = f"{value}.quantized"
        _settings(wanted, entry.quantize, value, parameters)
        if value in inputs:
            wanted[entry.rounded] = f"{value}.rounded"
            continue
        wanted[entry.rounded] = value
        made_by = producer[value].name
        wanted[value] = made_by if made_by and made_by != value else f"{value}.exact"
    _rename(graph, _distinct(graph, wanted))
    for node in graph.node:
        node.name = node.output[0]


def _settings(wanted: dict[str, str], node: onnx.NodeProto, owner: str, parameters: set[str]) -> None:
    """Name scale and zero point after what they belong to; the first owner of a shared one names it."""
    for name, kind in zip(node.input[1:], ("scale", "zero_point"), strict=False):
        if name in parameters:
            wanted.setdefault(name, f"{owner}.{kind}")


def _distinct(graph: onnx.GraphProto, wanted: Mapping[str, str]) -> dict[str, str]:
    """Give way to names that stay: a number behind a name that is taken."""
    everything = {value.name for value in (*graph.input, *graph.output)}
    everything |= {tensor.name for tensor in graph.initializer}
    everything |= {name for node in graph.node for name in node.output}
    taken = everything - set(wanted)
    names = {}
    for old, new in wanted.items():
        candidate, number = new, 1
        while candidate in taken:
            number += 1
            candidate = f"{new}_{number}"
        taken.add(candidate)
        names[old] = candidate
    return names


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
