"""Cases of QuantizeLinear and DequantizeLinear as the pair in which networks have them."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx
from onnx import helper

from clearweight.exporter.autodiff import OpKey, op_key

OPSETS = (16, 19, 21, 23, 24, 25, 26)
RANGES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class QuantizationCase:
    """``y = dequantize(quantize(x))`` at scales and zero points: one of each, or one per entry of an axis."""

    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...] | None
    axis: int | None = None
    opset: int = 18

    shape = (2, 3, 8)

    @property
    def keys(self) -> set[OpKey]:
        return {op_key("", op, self.opset) for op in ("QuantizeLinear", "DequantizeLinear")}

    def __str__(self) -> str:
        return f"{self.dtype}-{self.scale}-{self.zero_point}-axis{self.axis}-opset{self.opset}".replace(
            " ", ""
        )

    def parameters(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Scale and zero point as the operator takes them: scalars without an axis."""
        scale = np.asarray(self.scale, np.float32)
        zero = None if self.zero_point is None else np.asarray(self.zero_point, self.dtype)
        if self.axis is None:
            return scale.reshape(()), None if zero is None else zero.reshape(())
        return scale, zero

    def broadcast(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point in float64, shaped to stand beside x."""
        scale, zero = self.parameters()
        zero = np.zeros_like(scale) if zero is None else zero
        shape = [1] * len(self.shape)
        if self.axis is not None:
            shape[self.axis] = -1
        return scale.reshape(shape).astype(np.float64), zero.reshape(shape).astype(np.float64)

    def model(self) -> onnx.ModelProto:
        scale, zero = self.parameters()
        settings = {"s": scale} if zero is None else {"s": scale, "z": zero}
        attrs = {} if self.axis is None else {"axis": self.axis}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", *settings], ["q"], "quantize", **attrs),
            helper.make_node("DequantizeLinear", ["q", *settings], ["y"], "dequantize", **attrs),
        ]
        dims = ["N", *self.shape[1:]]
        graph = helper.make_graph(
            nodes,
            "case",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, dims)],
            [onnx.numpy_helper.from_array(value, name) for name, value in settings.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


PER_TENSOR = [
    QuantizationCase("uint8", (0.25,), (128,)),
    QuantizationCase("uint8", (0.25,), None),
    QuantizationCase("uint8", (0.1,), (0,)),
    QuantizationCase("int8", (0.25,), (0,)),
    QuantizationCase("int8", (0.037,), (-100,)),
    QuantizationCase("int16", (0.002,), (7,), opset=21),
    QuantizationCase("uint16", (0.002,), (30000,), opset=21),
]
PER_AXIS = [
    QuantizationCase(dtype, (0.25, 0.05, 1.5), zero, axis=axis)
    for (dtype, zero), axis in product((("uint8", (128, 0, 255)), ("int8", (0, -5, 100))), (1, -2))
]
VERSIONS = [
    QuantizationCase("int8", scale, zero, axis, opset)
    for opset in OPSETS
    for scale, zero, axis in (((0.25,), (3,), None), ((0.25, 0.05, 1.5), (0, 3, -4), 1))
]
QUANTIZATION_CASES = [*PER_TENSOR, *PER_AXIS, *VERSIONS]
