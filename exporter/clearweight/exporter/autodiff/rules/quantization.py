"""VJP rules of quantization: straight through the rounding, stopped where the value was clipped.

The true derivative of a rounding is zero almost everywhere, so a map through it is defined, not derived: that of
the surrogate in which rounding is the identity (Bengio et al., arXiv 1308.3432, with the mask of Jacob et al., CVPR
2018, section 3). Integers carry float cotangents here. Taken apart, DequantizeLinear multiplies by the scale and
QuantizeLinear divides by it; as a pair they cancel, and only the mask is emitted.
"""

import numpy as np
import onnx

from clearweight.exporter.autodiff.emit import Emit
from clearweight.exporter.autodiff.node import Node
from clearweight.exporter.autodiff.walker import Gradients

# Range of each integer type a value may be quantized to (2-bit types since opset 25).
_RANGES = {
    name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if name.startswith("INT") else (0, 2**bits - 1)
    for bits in (2, 4, 8, 16, 32)
    for name in (f"INT{bits}", f"UINT{bits}")
}


def quantize_linear_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = clip(round(x / s) + z, lo, hi);  dx = dy / s where lo <= round(x / s) + z <= hi``, straight through."""
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is defined, not to scale or zero point")
    emit.straight_through = True
    x = node.inputs[0]
    scale = _along_axis(emit, node, 1)
    steps = emit.op("Round", emit.op("Div", x, scale))
    zero_point = node.input(2)
    if zero_point is not None and not _is_zero(emit, zero_point):
        steps = emit.op("Add", steps, emit.as_type_of(_along_axis(emit, node, 2), x))
    low, high = _range(emit, node)
    clipped = emit.op("Clip", steps, emit.number(low, x), emit.number(high, x))
    passed = _times_scale_undone(emit, dy, scale)
    undivided = emit.op("Div", dy, scale) if passed is None else passed
    return (emit.op("Mul", undivided, emit.equal(clipped, steps)), *(None for _ in node.inputs[1:]))


def dequantize_linear_vjp(emit: Emit, node: Node, dy: str) -> Gradients:
    """``y = (x - z) s;  dx = dy s``."""
    if node.wants(1) or node.wants(2):
        emit.unsupported(node, "only the gradient to its first input is defined, not to scale or zero point")
    return (emit.op("Mul", dy, _along_axis(emit, node, 1)), *(None for _ in node.inputs[1:]))


def _along_axis(emit: Emit, node: Node, index: int) -> str:
    """Shape a scale or zero point so that it broadcasts along the quantized axis."""
    given, x = node.inputs[index], node.inputs[0]
    if int(node.attributes.get("block_size", 0)):
        emit.unsupported(node, "block_size is set, and blocked quantization of activations is not covered")
    shape = emit.shape(given)
    if not shape:
        return given
    rank = emit.rank(x)
    if shape == (1,):
        return emit.reshape(given, ()) if rank == 0 else given
    axis = int(node.attributes.get("axis", 1)) % rank
    return emit.reshape(given, tuple(shape[0] if at == axis else 1 for at in range(rank)))


def _is_zero(emit: Emit, zero_point: str) -> bool:
    """Tell whether a zero point is known to be zero everywhere."""
    array = emit.known(zero_point)
    return array is not None and not np.any(np.asarray(array, np.int64))


def _range(emit: Emit, node: Node) -> tuple[int, int]:
    element = emit.graph.type(node.outputs[0]).element
    name = str(onnx.TensorProto.DataType.Name(element))
    if name not in _RANGES:
        emit.unsupported(node, f"it quantizes to {name}, expected integers")
    return _RANGES[name]


def _times_scale_undone(emit: Emit, dy: str, scale: str) -> str | None:
    """Return the factor beside the scale where DequantizeLinear has just multiplied by the same one."""
    made_by = emit.graph.producer(dy)
    if made_by is None or made_by.key.op_type != "Mul" or made_by.inputs[1] != scale:
        return None
    return made_by.inputs[0]
