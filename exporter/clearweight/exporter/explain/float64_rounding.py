"""Rounding in the float64 twin: onnx's reference has it from opset 19 on, and for scales of float32 alone."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun


class QuantizeLinear(OpRun):
    """``clip(round_half_even(x / s) + z, lo, hi)`` in the integer type of z."""

    op_domain = ""

    def _run(
        self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None = None, **setting: Any
    ) -> Any:
        kind = np.dtype(np.uint8) if zero is None else zero.dtype
        limits = np.iinfo(kind)
        axis = setting.get("axis", 1)
        steps = np.rint(x / _along(scale, x, axis)) + (
            0 if zero is None else _along(zero, x, axis).astype(x.dtype)
        )
        return (np.clip(steps, limits.min, limits.max).astype(kind),)


class DequantizeLinear(OpRun):
    """``(x - z) s`` in the precision of s."""

    op_domain = ""

    def _run(
        self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None = None, **setting: Any
    ) -> Any:
        axis = setting.get("axis", 1)
        steps = x.astype(scale.dtype) - (0 if zero is None else _along(zero, x, axis).astype(scale.dtype))
        return ((steps * _along(scale, x, axis)).astype(scale.dtype),)


def _along(values: NDArray[Any], x: NDArray[Any], axis: int) -> NDArray[Any]:
    """Shape one number per index of an axis, or one for all, so that it broadcasts against ``x``."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if at == axis % x.ndim else 1 for at in range(x.ndim)])


ROUNDING = (QuantizeLinear, DequantizeLinear)


def known_arrays(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Return every array that stands in the graph: initializers and Constant nodes."""
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        value = next((entry.t for entry in node.attribute if entry.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            found[node.output[0]] = onnx.numpy_helper.to_array(value)
    return found


def dequantize_parameters(graph: onnx.GraphProto) -> None:
    """Replace the integers that a parameter is stored as by the numbers they stand for, in place."""
    known = known_arrays(graph)
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        if not all(name in known for name in node.input):
            continue
        values, scale, *zero = (known[name] for name in node.input)
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        steps = values.astype(scale.dtype) - (
            _along(zero[0], values, axis).astype(scale.dtype) if zero else 0
        )
        graph.initializer.append(
            onnx.numpy_helper.from_array(steps * _along(scale, values, axis), node.output[0])
        )
        graph.node.remove(node)
