"""Half precision widened to single: what a user's float16 or bfloat16 model is explained in.

A gradient in float16 loses what lies below 6e-8, while the derivatives of a deep network's logits with respect to
single pixels are often that small; and ONNX Runtime's CPU kernels compute most float16 operators in float32 between
casts anyway. So every half-precision tensor is widened, which is exact, and the network runs in float32 throughout.
"""

import numpy as np
import onnx

_SINGLE = onnx.TensorProto.FLOAT
_HALF = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
# Attributes that hold an element type.
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})


def half_types(model: onnx.ModelProto) -> tuple[str, ...]:
    """Name the half-precision types of a model's inputs, outputs, parameters and casts."""
    found: set[int] = set()
    for graph in _graphs(model.graph):
        found.update(tensor.data_type for tensor in graph.initializer)
        found.update(value.type.tensor_type.elem_type for value in (*graph.input, *graph.output))
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    found.add(attribute.t.data_type)
                if attribute.name in _TYPE_ATTRIBUTES:
                    found.add(attribute.i)
    return tuple(sorted(name for element, name in _HALF.items() if element in found))


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with float32 wherever the model has float16 or bfloat16, inputs and outputs too."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for graph in _graphs(wide.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in _HALF:
                value.type.tensor_type.elem_type = _SINGLE
        del graph.value_info[:]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    _widen_tensor(attribute.t)
                if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _HALF:
                    attribute.i = _SINGLE
    return wide


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """List a graph and every subgraph in it."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            inner = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            for subgraph in inner:
                found.extend(_graphs(subgraph))
    return found


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _HALF:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
