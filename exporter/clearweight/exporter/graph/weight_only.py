"""Weights in few bits, arithmetic in float32: each weight tensor in 4, 8, 16 or 32 bits.

What the weight does to memory depends on how ONNX Runtime (1.31, CPU) reads it, found by measuring:

- products with 4 or 8 bits are MatMulNBits, whose weight stays packed;
- other weights with 8 bits, or 4 in ONNX's INT4, go through DequantizeLinear, which the runtime does not fold:
  the integers stay, and the floats of one layer at a time exist while it runs;
- 16 bits go through Cast, which the runtime folds when it loads the file: half the file, all of the memory.

The function is piecewise linear as before: no activation is rounded, and a gradient is the gradient.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.errors import ParameterError
from clearweight.exporter.graph.few_bits import block_codes, output_codes, packed
from clearweight.exporter.graph.matmul_nbits import DOMAIN, matmul_nbits
from clearweight.exporter.graph.shape import free_batch

BITS = (4, 8, 16, 32)
BLOCK = 32
_INT4_OPSET = 21
# Operator -> where its weights stand among its inputs, and the axis of its outputs in them.
_WEIGHTS = {
    "Conv": ((1,), 0),
    "ConvTranspose": ((1,), 1),
    "Gemm": ((1,), 0),
    "MatMul": ((1,), 0),
    "GRU": ((1, 2), 1),
    "LSTM": ((1, 2), 1),
    "RNN": ((1, 2), 1),
}
Reader = tuple[onnx.NodeProto, int]


@dataclass(frozen=True, eq=False)
class WeightOnly:
    """A model whose weights are stored in few bits.

    Attributes
    ----------
    model : parameters under their own names
    beside : names of the scales, which are no parameters of the network
    values : parameter -> the float32 that it now stands for, in its former shape; those that changed
    """

    model: onnx.ModelProto
    beside: frozenset[str]
    values: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Kind:
    """How one weight is read.

    Attributes
    ----------
    products : the nodes that multiply by it, where it is nothing but a matrix of products in one orientation
    turned : whether that matrix holds inputs by outputs
    between : Transpose nodes that stand between it and the products
    axis : of the outputs, where it is anything else
    """

    products: tuple[onnx.NodeProto, ...] = ()
    turned: bool = False
    between: tuple[onnx.NodeProto, ...] = ()
    axis: int = 0


def weights_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the weights that can take few bits, in the order in which they are read."""
    shapes = {
        t.name: tuple(t.dims)
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1
    }
    behind = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Transpose"}
    found = [
        behind.get(node.input[place], node.input[place])
        for node in model.graph.node
        for place in _WEIGHTS.get(node.op_type, ((), 0))[0]
        if place < len(node.input)
    ]
    return {name: shapes[name] for name in dict.fromkeys(found) if name in shapes}


def stored_bytes(model: onnx.ModelProto, name: str, bits: int) -> int:
    """Return the bytes that a weight takes in so many bits, scales included, before any entropy coding."""
    shape = weights_of(model)[name]
    if bits > 8:
        return prod(shape) * bits // 8
    kind = _kind(_readers(model.graph), name, len(shape))
    if kind.products:
        outputs, inputs = shape[::-1] if kind.turned else shape
        blocks = -(-inputs // BLOCK)
        return int(outputs * blocks * (BLOCK * bits // 8 + 4))
    return -(-prod(shape) * bits // 8) + 4 * shape[kind.axis]


def few_bit_values(model: onnx.ModelProto, name: str, bits: int) -> NDArray[np.float32]:
    """Return the float32 values that a weight stands for once it is stored in so many bits."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    kind = _kind(_readers(model.graph), name, len(tensor.dims))
    return _stored(tensor, kind, bits, four_bit_tensors=False)[2]


def weight_only(
    model: onnx.ModelProto, bits: Mapping[str, int], *, four_bit_tensors: bool = False
) -> WeightOnly:
    """Store weights of a canonical model in the bits given for each.

    Parameters
    ----------
    bits : parameter -> 4, 8, 16 or 32; those that are not named stay as they are, and only weights take 4 or 8
    four_bit_tensors : write ONNX's INT4 where 4 bits are no product; else such codes lie in int8, where entropy coding
        finds them. The model must have opset 21 then.

    Raises
    ------
    ParameterError
        No such parameter, bits that it cannot take, or INT4 below opset 21.
    """
    own = onnx.ModelProto()
    own.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in own.graph.initializer}
    _check(model, bits, tensors, four_bit_tensors=four_bit_tensors)
    readers = _readers(own.graph)
    first: dict[str, list[onnx.NodeProto]] = {}
    beside, values, gone = set(), {}, set()
    # Packed products come last: they move a bias to another place among the inputs.
    for name, width in sorted(bits.items(), key=lambda entry: -entry[1]):
        if width == 32:
            continue
        tensor = tensors[name]
        kind = _kind(readers, name, len(tensor.dims))
        stored, scales, values[name] = _stored(tensor, kind, width, four_bit_tensors=four_bit_tensors)
        tensor.CopyFrom(stored)
        if scales is not None:
            beside.add(f"{name}.scale")
            own.graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{name}.scale"))
        if width <= 8 and kind.products:
            gone |= {node.name for node in kind.between}
            _multiply_packed(name, kind, values[name].shape, width)
        else:
            restore = _restoring(name, kind, width)
            for node, place in readers[name]:
                node.input[place] = restore.output[0]
            first.setdefault(readers[name][0][0].name, []).append(restore)
    standing = [node for node in own.graph.node if node.name not in gone]
    nodes = [made for node in standing for made in (*first.get(node.name, ()), node)]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del own.graph.node[:]
    own.graph.node.extend(kept)
    if any(node.domain == DOMAIN for node in own.graph.node):
        own.opset_import.add(domain=DOMAIN, version=1)
    else:
        free_batch(own)
        onnx.checker.check_model(own, full_check=True)
    return WeightOnly(own, frozenset(beside), values)


def _check(
    model: onnx.ModelProto,
    bits: Mapping[str, int],
    tensors: Mapping[str, onnx.TensorProto],
    *,
    four_bit_tensors: bool,
) -> None:
    weights = weights_of(model)
    for name, width in bits.items():
        if name not in tensors:
            raise ParameterError(f"No parameter {name!r}. Known: {', '.join(tensors)}.")
        if width not in BITS or (width < 16 and name not in weights):
            known = "4, 8, 16 or 32" if name in weights else "16 or 32: only weights take fewer"
            raise ParameterError(f"Parameter {name!r} was to take {width} bits, expected {known}.")
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if four_bit_tensors and opset < _INT4_OPSET:
        raise ParameterError(
            f"The model has opset {opset}, where DequantizeLinear takes no INT4; expected {_INT4_OPSET}."
        )


def _readers(graph: onnx.GraphProto) -> dict[str, list[Reader]]:
    found = defaultdict(list)
    for node in graph.node:
        for place, name in enumerate(node.input):
            found[name].append((node, place))
    return dict(found)


def _kind(readers: Mapping[str, list[Reader]], name: str, rank: int) -> _Kind:
    """Tell how a weight is read; products of one orientation alone become MatMulNBits."""
    own = readers[name]
    axis = _WEIGHTS.get(own[0][0].op_type, ((), 0))[1]
    if rank != 2:
        return _Kind(axis=axis)
    if all(_is_product(node) and place == 1 for node, place in own):
        turned = {_turned(node) for node, _ in own}
        return _Kind(tuple(node for node, _ in own), turned.pop()) if len(turned) == 1 else _Kind(axis=axis)
    between = tuple(node for node, _ in own)
    behind = [reader for node in between for reader in readers.get(node.output[0], [])]
    swapped = all(node.op_type == "Transpose" for node in between)
    if swapped and behind and all(node.op_type == "MatMul" and place == 1 for node, place in behind):
        return _Kind(tuple(node for node, _ in behind), turned=False, between=between)
    return _Kind(axis=axis)


def _is_product(node: onnx.NodeProto) -> bool:
    plain = {"transA": 0, "alpha": 1.0, "beta": 1.0}
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return node.op_type == "MatMul" or (
        node.op_type == "Gemm" and all(settings.get(key, value) == value for key, value in plain.items())
    )


def _turned(node: onnx.NodeProto) -> bool:
    """Whether the weight holds inputs by outputs."""
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return not settings.get("transB", 0)


def _stored(
    tensor: onnx.TensorProto, kind: _Kind, bits: int, *, four_bit_tensors: bool
) -> tuple[onnx.TensorProto, NDArray[np.float32] | None, NDArray[np.float32]]:
    """Return a parameter as it is stored, its scales, and the values that both stand for."""
    weight = np.asarray(onnx.numpy_helper.to_array(tensor), np.float32)
    if bits == 32:
        return tensor, None, weight
    if bits == 16:
        limit = np.finfo(np.float16).max
        half = weight.clip(-limit, limit).astype(np.float16)
        return onnx.numpy_helper.from_array(half, tensor.name), None, half.astype(np.float32)
    if kind.products:
        made = block_codes(np.ascontiguousarray(weight.T if kind.turned else weight), bits, BLOCK)
        rows = made.matrix(weight.shape[0] if kind.turned else weight.shape[1])
        whole = onnx.numpy_helper.from_array(packed(made.codes, bits), tensor.name)
        return whole, made.scales, np.ascontiguousarray(rows.T if kind.turned else rows)
    codes, scales = output_codes(weight, bits, kind.axis)
    along = scales.reshape([-1 if axis == kind.axis else 1 for axis in range(weight.ndim)])
    if bits == 4 and four_bit_tensors:
        flat = np.append(codes, np.int8(0))[: codes.size + codes.size % 2]
        stored = onnx.TensorProto(
            name=tensor.name,
            data_type=onnx.TensorProto.INT4,
            dims=codes.shape,
            raw_data=packed(flat, 4).tobytes(),
        )
    else:
        stored = onnx.numpy_helper.from_array(codes, tensor.name)
    return stored, scales, codes.astype(np.float32) * along


def _restoring(name: str, kind: _Kind, bits: int) -> onnx.NodeProto:
    """Return the node that makes floats of a stored parameter."""
    made = f"{name}.dequantized"
    if bits == 16:
        return onnx.helper.make_node("Cast", [name], [made], name=made, to=onnx.TensorProto.FLOAT)
    return onnx.helper.make_node(
        "DequantizeLinear", [name, f"{name}.scale"], [made], name=made, axis=kind.axis
    )


def _multiply_packed(name: str, kind: _Kind, shape: tuple[int, ...], bits: int) -> None:
    """Turn the products of a weight into packed ones, in place."""
    outputs, inputs = shape[::-1] if kind.turned else shape
    for node in kind.products:
        bias = node.input[2] if len(node.input) > 2 else ""
        node.input[1] = name
        node.CopyFrom(
            matmul_nbits(node, f"{name}.scale", bias, inputs=inputs, outputs=outputs, bits=bits, block=BLOCK)
        )
