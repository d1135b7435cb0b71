"""A growing ONNX graph whose values all have known types.

It starts as the caller's model; the backward pass appends to it. Values never change their meaning, so a node
that is asked for twice is made once.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.autodiff.errors import UnknownValueError, UnsupportedOpError
from clearweight.exporter.autodiff.node import Node, read_attributes, subgraphs, values_read
from clearweight.exporter.autodiff.op_key import DEFAULT_DOMAIN, OpKey, op_key
from clearweight.exporter.autodiff.value_type import (
    Shape,
    ValueType,
    from_proto,
    infer,
    to_proto,
    type_of_array,
)
from clearweight.exporter.outside import check, lies_outside, numbers

MIN_OPSET = 16  # what the rules emit exists from here on; ScatterElements adds since 16
_SETTING_SIZE = 4096  # larger constants never shape a result


class Graph:
    """A model that nodes can be added to.

    Parameters
    ----------
    model : ONNX model with only tensors, opset 16 or later; not modified

    Raises
    ------
    UnsupportedOpError
        The model's opset is older than 16.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.ir_version, self.opset_imports = model.ir_version, tuple(model.opset_import)
        self.opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
        if self.opset < MIN_OPSET:
            raise UnsupportedOpError(f"The model has opset {self.opset}, expected {MIN_OPSET} or later.")
        self._protos: list[onnx.NodeProto] = []
        self._nodes: list[Node] = []
        self._producer: dict[str, Node] = {}
        self._types: dict[str, ValueType] = {}
        self._constants: dict[str, NDArray[np.generic]] = {}
        self._exported: set[str] = set()
        self._made: dict[tuple[object, ...], str] = {}
        self._counter = 0
        self._stated = _stated_types(model)
        self._whole = _whole_types(model, self._stated)
        for tensor in model.graph.initializer:
            self._types[tensor.name] = ValueType(tensor.data_type, tuple(tensor.dims))
        self._parameters = set(self._types)
        for source in model.graph.input:
            self._types.setdefault(source.name, from_proto(source.type))
        for proto in model.graph.node:
            self._append(proto)
        self._forward = len(self._nodes)

    # Reading -------------------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[str]:
        """Names of the model's inputs, parameters left out."""
        return [source.name for source in self._model.graph.input if source.name not in self._parameters]

    @property
    def outputs(self) -> list[str]:
        """Names of the model's outputs."""
        return [output.name for output in self._model.graph.output]

    @property
    def nodes(self) -> Sequence[Node]:
        """Every node so far, in order."""
        return self._nodes

    @property
    def protos(self) -> Sequence[onnx.NodeProto]:
        """Every node so far, as it will be written."""
        return self._protos

    def type(self, value: str) -> ValueType:
        """Return element type and shape of a value."""
        if value not in self._types:
            raise UnknownValueError(f"No value {value!r} in the graph. Known: {', '.join(self._types)}.")
        return self._types[value]

    def shape(self, value: str) -> Shape:
        """Return the shape of a value whose rank is known."""
        shape = self.type(value).shape
        if shape is None:
            raise UnknownValueError(f"The rank of value {value!r} is unknown: run shape inference first.")
        return shape

    def constant(self, value: str) -> NDArray[np.generic] | None:
        """Return the array behind a Constant node; None for parameters and computed values."""
        return self._constants.get(value)

    def initializer(self, value: str) -> NDArray[np.generic] | None:
        """Return the array behind an initializer that no caller can override; None for all else."""
        tensor = next((entry for entry in self._model.graph.initializer if entry.name == value), None)
        if tensor is None or any(source.name == value for source in self._model.graph.input):
            return None
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not lies_outside(tensor):
            return None
        return numbers(tensor)

    def producer(self, value: str) -> Node | None:
        """Return the node that makes a value; None for inputs and parameters."""
        return self._producer.get(value)

    def is_parameter(self, value: str) -> bool:
        """Tell whether a value is an initializer of the model."""
        return value in self._parameters

    # Growing -------------------------------------------------------------------------------------------

    def add_constant(self, array: NDArray[np.generic]) -> str:
        """Add a Constant node, or find the equal one."""
        key = ("Constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._made:
            name = self._fresh("constant")
            proto = onnx.helper.make_node(
                "Constant", [], [name], name, value=onnx.numpy_helper.from_array(array)
            )
            self._append(proto)
            self._made[key] = name
        return self._made[key]

    def add_node(self, op_type: str, inputs: Sequence[str | None], attributes: Mapping[str, Any]) -> str:
        """Add a node of the standard domain with one output, or find the equal one; its output's name."""
        names = [name or "" for name in inputs]
        given = {key: value for key, value in attributes.items() if value is not None}
        key = (op_type, *names, *sorted((name, str(value)) for name, value in given.items()))
        if key not in self._made:
            output = self._fresh(op_type.lower())
            self._append(onnx.helper.make_node(op_type, names, [output], output, **given))
            self._made[key] = output
        return self._made[key]

    def add_nodes(self, nodes: Sequence[onnx.NodeProto], types: Mapping[str, ValueType]) -> None:
        """Append whole nodes whose output types the caller knows: copies, or ones that hold a subgraph."""
        for name in types:
            if name in self._types:
                raise UnsupportedOpError(
                    f"The model already has a value {name!r}, which the graph needs for itself."
                )
        self._stated.update(types)
        for proto in nodes:
            self._append(proto)

    def add_input(self, name: str, value: ValueType) -> str:
        """Declare a further input of the graph."""
        if name in self._types:
            raise UnsupportedOpError(
                f"The model already has a value {name!r}, which the graph needs for itself."
            )
        self._types[name] = value
        return name

    def export(self, value: str, name: str) -> None:
        """Give a value the name under which it leaves the graph; a copy, if it already has a name of its own."""
        if name in self._types:
            raise UnsupportedOpError(
                f"The model already has a value {name!r}, which the graph needs for itself."
            )
        added = self._protos[self._forward :]
        if value in self._exported or not any(value in proto.output for proto in added):
            self._append(onnx.helper.make_node("Identity", [value], [name], name))
        else:
            self._types[name] = self._types.pop(value)
            self._producer[name] = self._producer.pop(value)
            self._made = {key: name if made == value else made for key, made in self._made.items()}
            for proto in added:
                for names in (proto.input, proto.output):
                    for index, used in enumerate(names):
                        if used == value:
                            names[index] = name
        self._exported.add(name)

    def request_output(self, node: Node, index: int) -> str:
        """Return an optional output of a node of the model, switching it on where the model left it out."""
        position = next(at for at, other in enumerate(self._nodes) if other.outputs[0] == node.outputs[0])
        proto = self._protos[position]
        if index < len(proto.output) and proto.output[index]:
            return proto.output[index]
        while len(proto.output) <= index:
            proto.output.append("")
        proto.output[index] = self._fresh(f"{node.key.op_type.lower()}_output{index}")
        for name, value in zip([name for name in proto.output if name], self._infer(proto), strict=True):
            self._types.setdefault(name, value)
        return proto.output[index]

    def narrow(self, value: str, shape: Shape) -> str:
        """Record a shape that the caller knows and inference does not."""
        self._types[value] = ValueType(self._types[value].element, shape)
        return value

    # Writing -------------------------------------------------------------------------------------------

    def model(self, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
        """Write the graph with these further inputs and these outputs, without nodes that nothing needs."""
        written = onnx.ModelProto(ir_version=self._model.ir_version)
        written.opset_import.extend(self._model.opset_import)
        graph = written.graph
        graph.name = self._model.graph.name
        graph.initializer.extend(self._model.graph.initializer)
        graph.node.extend(_needed(self._protos, outputs))
        graph.input.extend(self._model.graph.input)
        for name in inputs:
            graph.input.add(name=name).type.CopyFrom(to_proto(self._types[name]))
        for name in outputs:
            graph.output.add(name=name).type.CopyFrom(to_proto(self._types[name]))
        check(written)
        return written

    def _append(self, source: onnx.NodeProto) -> None:
        proto = onnx.NodeProto()
        proto.CopyFrom(source)
        attributes = read_attributes(proto)
        key = op_key(proto.domain, proto.op_type, self.opset)
        node = Node(
            key,
            proto.name or next(iter(proto.output)),
            tuple(proto.input),
            tuple(proto.output),
            attributes,
            captured=frozenset(values_read(proto) - set(proto.input)),
        )
        if proto.op_type == "Constant" and key.domain == DEFAULT_DOMAIN:
            array = _constant_array(attributes)
            self._constants[proto.output[0]] = array
            self._types[proto.output[0]] = type_of_array(array)
        else:
            self._type_outputs(proto, key)
        self._protos.append(proto)
        self._nodes.append(node)
        self._producer.update({name: node for name in node.outputs if name})

    def _type_outputs(self, proto: onnx.NodeProto, key: OpKey) -> None:
        names = [name for name in proto.output if name]
        if all(name in self._stated for name in names):
            self._types.update({name: self._stated[name] for name in names})
        elif key.domain != DEFAULT_DOMAIN or subgraphs(proto):
            self._types.update({name: self._whole.get(name, ValueType(0, None)) for name in names})
        else:
            for name, value in zip(names, self._infer(proto), strict=True):
                self._types[name] = _sharper(value, self._whole.get(name))

    def _infer(self, proto: onnx.NodeProto) -> list[ValueType]:
        settings = {
            name: self._constants[name]
            for name in proto.input
            if name in self._constants and self._constants[name].size <= _SETTING_SIZE
        }
        return infer(proto, self.opset, self._types, settings)

    def _fresh(self, stem: str) -> str:
        while True:
            name = f"backward.{stem}_{self._counter}"
            self._counter += 1
            if name not in self._types:
                return name


def _stated_types(model: onnx.ModelProto) -> dict[str, ValueType]:
    """Collect the types that the model states in full."""
    stated = {value.name: from_proto(value.type) for value in (*model.graph.value_info, *model.graph.output)}
    return {name: kind for name, kind in stated.items() if kind.shape is not None and None not in kind.shape}


def _whole_types(model: onnx.ModelProto, stated: Collection[str]) -> dict[str, ValueType]:
    """Infer the model as a whole where it does not state every type: this follows computed shapes too."""
    produced = {
        name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name
    }
    if produced <= set(stated):
        return {}
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {
        value.name: from_proto(value.type) for value in (*inferred.graph.value_info, *inferred.graph.output)
    }


def _sharper(inferred: ValueType, declared: ValueType | None) -> ValueType:
    """Fill what one inference left open with what the other found."""
    if declared is None or declared.shape is None:
        return inferred
    if inferred.shape is None:
        return declared
    pairs = zip(inferred.shape, declared.shape, strict=True)
    return ValueType(inferred.element, tuple(own if own is not None else stated for own, stated in pairs))


def _constant_array(attributes: Mapping[str, Any]) -> NDArray[np.generic]:
    """Read the array of a Constant node in any of its spellings."""
    (name, value), *_ = attributes.items()
    if name == "value":
        return np.asarray(onnx.numpy_helper.to_array(value))
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if name not in kinds:
        raise UnsupportedOpError(f"A Constant node holds {name!r}, expected numbers.")
    return np.asarray(value, dtype=kinds[name])


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Collection[str]) -> list[onnx.NodeProto]:
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(values_read(node))
    return kept[::-1]
