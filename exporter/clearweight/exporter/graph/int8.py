"""Plain ONNX in 8 bits: static quantization with QuantizeLinear and DequantizeLinear round each operator."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from clearweight.exporter.graph.canonical import IR_VERSION
from clearweight.exporter.graph.errors import ParameterError

_BATCH = 64
QUANTIZED_OPERATORS = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Add",
    "Relu",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
)


def int8_onnx(model: onnx.ModelProto, calibration: NDArray[np.float32]) -> onnx.ModelProto:
    """Quantize a canonical model to int8, with activation ranges measured on calibration inputs.

    Weights are symmetric and per output channel; activations take the range they show on the calibration
    inputs. What this costs in accuracy is for the caller to measure.

    Parameters
    ----------
    model : self-contained canonical model
    calibration : float32, shape (n, ...), n >= 1, of the model's input shape

    Raises
    ------
    ParameterError
        The calibration inputs do not fit the model's input.

    References
    ----------
    Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018, section 2.
    """
    source = model.graph.input[0]
    wanted = tuple(dim.dim_value for dim in source.type.tensor_type.shape.dim[1:])
    if calibration.shape[1:] != wanted or len(calibration) == 0 or calibration.dtype != np.float32:
        raise ParameterError(
            f"Calibration inputs have shape {calibration.shape} and type {calibration.dtype}, "
            f"expected (n, {', '.join(map(str, wanted))}) with n >= 1 and float32."
        )
    own = onnx.ModelProto()
    own.CopyFrom(model)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a pre-processing step that the canonical form already is
    try:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "model.int8.onnx"
            quantization.quantize_static(
                own,
                path,
                _Batches(source.name, calibration),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED_OPERATORS),
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
            )
            quantized = onnx.load(path)
    finally:
        root.setLevel(level)
    return _bare(quantized)


class _Batches(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Hand out the calibration inputs in batches, each once."""

    def __init__(self, name: str, inputs: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, Any]] = iter(
            [{name: inputs[start : start + _BATCH]} for start in range(0, len(inputs), _BATCH)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by input name, None at the end."""
        return next(self._batches, None)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep the graph alone: no producer, no metadata, only the operator sets in use."""
    used = {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
    bare = onnx.ModelProto(ir_version=IR_VERSION)
    bare.opset_import.extend(entry for entry in model.opset_import if entry.domain in used)
    bare.graph.CopyFrom(model.graph)
    bare.graph.name = "clearweight"
    for node in bare.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.checker.check_model(bare, full_check=True)
    return bare
