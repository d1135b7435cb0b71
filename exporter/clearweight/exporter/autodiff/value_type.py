"""Element type and shape of one value, and their inference for one node at a time.

A dimension is a number, a symbol that stands for the same number wherever it occurs (``N``), or None where
nothing is known. Emitted nodes are typed as they are made, so a malformed one fails in the rule that wrote it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray

Dim = int | str | None
Shape = tuple[Dim, ...]

# Operators without shape inference in onnx whose output is of the type of their first input.
_LIKE_INPUT = frozenset({"GroupNormalization"})


@dataclass(frozen=True)
class ValueType:
    """Element type (``onnx.TensorProto`` number) and shape; shape None is an unknown rank."""

    element: int
    shape: Shape | None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type as numpy says it."""
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.element))


def type_of_array(array: NDArray[np.generic]) -> ValueType:
    """Return the type of a constant."""
    return ValueType(element_of(array.dtype), tuple(array.shape))


def element_of(dtype: DTypeLike) -> int:
    """Return the ONNX element number of a numpy type."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def from_proto(proto: onnx.TypeProto) -> ValueType:
    """Read a tensor type; anything but a number or a symbol is an unknown dimension."""
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return ValueType(tensor.elem_type, None)
    return ValueType(tensor.elem_type, tuple(_dim(dim) for dim in tensor.shape.dim))


def to_proto(value: ValueType) -> onnx.TypeProto:
    """Write a tensor type."""
    return onnx.helper.make_tensor_type_proto(value.element, value.shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) if dim.HasField("dim_param") and dim.dim_param else None


def infer(
    node: onnx.NodeProto,
    opset: int,
    types: Mapping[str, ValueType],
    constants: Mapping[str, NDArray[np.generic]],
) -> list[ValueType]:
    """Infer the output types of one node of the standard domain from those of its inputs.

    Parameters
    ----------
    constants : values of the inputs that are constant and shape the result (axes, sizes)
    """
    if node.op_type in _LIKE_INPUT:
        return [types[node.input[0]]]
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    data = {
        name: onnx.numpy_helper.from_array(constants[name], name) for name in node.input if name in constants
    }
    found = onnx.shape_inference.infer_node_outputs(
        schema,
        node,
        {name: to_proto(types[name]) for name in node.input if name},
        data,
        opset_imports=[onnx.helper.make_opsetid(node.domain, opset)],
    )
    inferred = [
        from_proto(found[name]) if name in found else ValueType(0, None) for name in node.output if name
    ]
    if node.op_type == "Reshape":
        inferred[0] = _carry_symbol(types[node.input[0]], inferred[0])
    return inferred


def _carry_symbol(source: ValueType, target: ValueType) -> ValueType:
    """Name the one open dimension of a reshaped value after the one open dimension of its source.

    Both hold the same number of elements, so where the fixed dimensions multiply to the same number the
    open ones are equal; onnx leaves that to us.
    """
    if source.shape is None or target.shape is None:
        return target
    before = [dim for dim in source.shape if not isinstance(dim, int)]
    after = [dim for dim in target.shape if not isinstance(dim, int)]
    if len(before) != 1 or len(after) != 1 or before[0] is None or after[0] is not None:
        return target
    if fixed_size(source.shape) != fixed_size(target.shape):
        return target
    return ValueType(target.element, tuple(before[0] if dim is None else dim for dim in target.shape))


def fixed_size(shape: Shape) -> int:
    """Multiply the dimensions that are numbers."""
    return prod(dim for dim in shape if isinstance(dim, int))
