"""Matrix products over packed weights: ONNX Runtime's MatMulNBits, and the same in standard operators.

``com.microsoft::MatMulNBits`` keeps its weight packed in memory and unpacks it tile by tile while it multiplies; the
standard operators have no such product. What reads a graph instead of running it (differentiation, evaluation in
float64) gets the standard form, made of the same parameters. ONNX Runtime folds that form into floats when it loads it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
# ONNX Runtime's name for "multiply in float32": the default leaves it free to round the activations to 8 bits.
FLOAT32_ARITHMETIC = 1
_BIAS = 5


def matmul_nbits(
    node: onnx.NodeProto, scale: str, bias: str, *, inputs: int, outputs: int, bits: int, block: int
) -> onnx.NodeProto:
    """Return the product of a Gemm or MatMul over packed weights, under the same names.

    Parameters
    ----------
    node : its second input names the packed weight, uint8 (outputs, blocks, block * bits / 8)
    scale : name of the scales, float32 (outputs, blocks)
    bias : name, or "" for none
    """
    names = [node.input[0], node.input[1], scale, *(["", "", bias] if bias else [])]
    return onnx.helper.make_node(
        OPERATOR,
        names,
        list(node.output),
        name=node.name,
        domain=DOMAIN,
        K=inputs,
        N=outputs,
        bits=bits,
        block_size=block,
        accuracy_level=FLOAT32_ARITHMETIC,
    )


def standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write every MatMulNBits in standard operators over the same parameters; a model without one comes back itself.

    Nodes with zero points or a group index, which this project does not write, stay.
    """
    if not any(_is_packed_product(node) for node in model.graph.node):
        return model
    own = onnx.ModelProto()
    own.CopyFrom(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in own.graph.initializer}
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*own.graph.input, *own.graph.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    nodes: list[onnx.NodeProto] = []
    unpacked: set[str] = set()
    for node in own.graph.node:
        if not _is_packed_product(node):
            nodes.append(node)
            continue
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight = node.input[1]
        if weight not in unpacked:
            unpacked.add(weight)
            nodes += _unpacking(weight, node.input[2], shapes[weight], settings)
        nodes += _product(node, f"{weight}.dequantized", flat=ranks.get(node.input[0]) == 2)
    del own.graph.node[:]
    own.graph.node.extend(nodes)
    if not any(node.domain == DOMAIN for node in own.graph.node):
        standard = [entry for entry in own.opset_import if entry.domain != DOMAIN]
        del own.opset_import[:]
        own.opset_import.extend(standard)
    return own


def _is_packed_product(node: onnx.NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type == OPERATOR and not any(node.input[3:_BIAS])


class _Chain:
    """Nodes one behind the other, all named after one weight."""

    def __init__(self, weight: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._weight = weight

    def constant(self, value: Any, dtype: type[np.generic]) -> str:
        name = f"{self._weight}.unpack{len(self.nodes)}"
        tensor = onnx.numpy_helper.from_array(np.asarray(value, dtype))
        self.nodes.append(onnx.helper.make_node("Constant", [], [name], name=name, value=tensor))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **settings: Any) -> str:
        made = name or f"{self._weight}.unpack{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [made], name=made, **settings))
        return made


def _unpacking(
    weight: str, scale: str, shape: tuple[int, ...], settings: Mapping[str, Any]
) -> list[onnx.NodeProto]:
    """Unpack codes, take off the middle one, scale block by block: (outputs, inputs) floats."""
    bits, block, inputs = settings.get("bits", 4), settings["block_size"], settings["K"]
    outputs, blocks = shape[0], shape[1]
    chain = _Chain(weight)
    codes = weight
    if bits < 8:
        last = chain.constant([-1], np.int64)
        mask = chain.constant((1 << bits) - 1, np.uint8)
        parts = []
        for place in range(8 // bits):
            moved = chain.add("BitShift", weight, chain.constant(place * bits, np.uint8), direction="RIGHT")
            parts.append(chain.add("Unsqueeze", chain.add("BitwiseAnd", moved, mask), last))
        codes = chain.add("Concat", *parts, axis=-1)
    by_block = chain.add("Reshape", codes, chain.constant([outputs, blocks, block], np.int64))
    steps = chain.add(
        "Sub",
        chain.add("Cast", by_block, to=onnx.TensorProto.FLOAT),
        chain.constant(1 << (bits - 1), np.float32),
    )
    each = chain.add("Reshape", scale, chain.constant([outputs, blocks, 1], np.int64))
    whole = chain.add("Mul", steps, each)
    flat = chain.constant([outputs, blocks * block], np.int64)
    final = f"{weight}.dequantized"
    if blocks * block == inputs:
        chain.add("Reshape", whole, flat, name=final)
    else:
        rows = chain.add("Reshape", whole, flat)
        ends = (chain.constant([value], np.int64) for value in (0, inputs, 1))
        chain.add("Slice", rows, *ends, name=final)
    return chain.nodes


def _product(node: onnx.NodeProto, weight: str, *, flat: bool) -> list[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    bias = node.input[_BIAS] if len(node.input) > _BIAS else ""
    if flat:
        names = [x, weight, *([bias] if bias else [])]
        return [onnx.helper.make_node("Gemm", names, [y], name=node.name, transB=1)]
    turned, product = f"{y}.turned_weight", f"{y}.product" if bias else y
    nodes = [
        onnx.helper.make_node("Transpose", [weight], [turned], name=turned, perm=[1, 0]),
        onnx.helper.make_node("MatMul", [x, turned], [product], name=product),
    ]
    if bias:
        nodes.append(onnx.helper.make_node("Add", [product, bias], [y], name=node.name))
    return nodes
