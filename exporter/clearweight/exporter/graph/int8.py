"""Plain ONNX in 8 bits: static quantization with QuantizeLinear and DequantizeLinear round each operator.

The logits stay float. Rounded ones would tie, which leaves the arg-max to chance, and a logit beyond the calibrated
range would be clipped, which leaves nothing to explain; the integer product before them is the same either way.

Weights take 7 bits, -64 to 64: x86 processors without VNNI add two products of an activation and a weight in 16 bits,
which saturates for 8 (onnxruntime's documentation, Quantize ONNX Models, "when to use reduce-range"). So the integers
are the same on every processor, and the answers that travel with an artifact hold there. onnxruntime's own way out, the
session option x64quantprecision, refuses graphs in which two operators read a weight (1.31).
"""

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
from clearweight.exporter.graph.quantized_names import name_as_float, roundings
from clearweight.exporter.graph.shape import free_batch

_BATCH = 64
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
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


def int8_onnx(
    model: onnx.ModelProto, calibration: NDArray[np.float32], *, per_channel: bool = True
) -> onnx.ModelProto:
    """Quantize a canonical model to int8, with activation ranges measured on calibration inputs.

    Weights are symmetric, so that zero stays zero; activations take the range they show on the calibration
    inputs. What this costs in accuracy is for the caller to measure. Names mean what they mean in ``model``
    (``quantized_names``): parameter ``w`` is there as int8 (biases: int32), with ``w.scale`` and ``w.zero_point``.

    Parameters
    ----------
    model : self-contained canonical model
    calibration : float32, shape (n, ...), n >= 1, of the model's input shape
    per_channel : one weight scale for each output, or one for the whole tensor. A single scale is coarser, and
        keeps values that are equal before rounding equal after it.

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
                per_channel=per_channel,
                reduce_range=True,
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
    _keep_outputs_float(bare.graph)
    name_as_float(bare.graph)
    _share_equal_settings(bare.graph)
    free_batch(bare)
    onnx.checker.check_model(bare, full_check=True)
    return bare


def _share_equal_settings(graph: onnx.GraphProto) -> None:
    """Keep one of equal scales or zero points; the first owner's name stands for all."""
    settings = {name for node in graph.node if node.op_type in _ROUNDING for name in node.input[1:]}
    kept: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {}
    for tensor in list(graph.initializer):
        if tensor.name not in settings:
            continue
        key = (tensor.data_type, tuple(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes())
        names[tensor.name] = kept.setdefault(key, tensor.name)
        if names[tensor.name] != tensor.name:
            graph.initializer.remove(tensor)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)


def _keep_outputs_float(graph: onnx.GraphProto) -> None:
    """Take the rounding off the graph's outputs, and what only it read out of the initializers."""
    outputs = {value.name for value in graph.output}
    for entry in roundings(graph):
        if entry.rounded not in outputs:
            continue
        exact, output = entry.value, entry.rounded
        for node in (entry.quantize, entry.dequantize):
            graph.node.remove(node)
        for node in graph.node:
            for values in (node.input, node.output):
                for index, name in enumerate(values):
                    values[index] = output if name == exact else name
    read = {name for node in graph.node for name in node.input}
    position = {name: at for at, node in reversed(list(enumerate(graph.node))) for name in node.input}
    kept = sorted((t for t in graph.initializer if t.name in read), key=lambda t: position[t.name])
    del graph.initializer[:]
    graph.initializer.extend(kept)
