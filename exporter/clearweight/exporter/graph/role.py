"""What an initializer is for: a parameter of the model, or a constant of its structure.

Parameters live outside the graph, in the packed weights; constants are Constant nodes inside it. The two
tables below decide, so that the same tensor always gets the same role.
"""

import onnx_ir as ir

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

# Inputs that hold a weight or bias by the operator's definition.
WEIGHT_INPUTS: dict[str, frozenset[int]] = {
    "Conv": frozenset({1, 2}),
    "ConvTranspose": frozenset({1, 2}),
    "Gemm": frozenset({0, 1, 2}),
    "MatMul": frozenset({0, 1}),
    "PRelu": frozenset({1}),
    "BatchNormalization": frozenset({1, 2, 3, 4}),
    "InstanceNormalization": frozenset({1, 2}),
    "LayerNormalization": frozenset({1, 2}),
    "GroupNormalization": frozenset({1, 2}),
}

# Float inputs that configure an operator and never hold a weight.
STRUCTURAL_INPUTS: dict[str, frozenset[int]] = {
    "Clip": frozenset({1, 2}),
    "Pad": frozenset({2}),
    "Resize": frozenset({1, 2}),
    "OneHot": frozenset({2}),
    "QuantizeLinear": frozenset({1}),
    "DequantizeLinear": frozenset({1}),
}


def is_weight(value: ir.Value) -> bool:
    """Tell whether any operator takes this float value as a weight or bias."""
    return value.dtype in FLOATS and any(
        use.idx in WEIGHT_INPUTS.get(use.node.op_type, frozenset()) for use in value.uses()
    )


def is_structural(value: ir.Value) -> bool:
    """Tell whether every operator takes this value as a setting."""
    return all(use.idx in STRUCTURAL_INPUTS.get(use.node.op_type, frozenset()) for use in value.uses())
