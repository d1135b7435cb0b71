"""The float64 twin of a float32 graph, and its evaluation by onnx's reference implementation.

ONNX Runtime has no float64 convolution, so the twin runs on ``onnx.reference``, whose two faults it goes round (onnx
1.23): ConvTranspose with groups crashes, so the twin has the weight expanded to block-dense form and no groups, which
is the same function; MaxPool of stride 1 returns wrong Indices, so it takes the path of the other strides. Resize is
right but takes milliseconds per element, so whole repetition, the only kind that gradients need, is done by numpy.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool


class _MaxPool(ReferenceMaxPool):
    """Max pooling whose Indices are right at every stride."""

    op_domain = ""

    def _run(self, x: NDArray[Any], **attributes: Any) -> Any:  # type: ignore[override]  # as the evaluator calls it
        return self._max_pool(x, **attributes)  # type: ignore[no-untyped-call]  # onnx has no types here


_MaxPool.__name__ = "MaxPool"  # the evaluator files an operator under its class's name


class _Resize(OpRun):
    """Nearest neighbours at whole scales: each element repeated."""

    op_domain = ""

    def _run(self, x: NDArray[Any], _roi: Any, scales: NDArray[Any], **attributes: Any) -> Any:
        if attributes.get("mode") != "nearest" or not np.equal(scales, np.round(scales)).all():
            raise NotImplementedError(
                f"Resize with scales {scales} and {attributes}, expected whole repetition."
            )
        for axis, count in enumerate(scales.astype(int)):
            x = x.repeat(count, axis=axis)
        return (x,)


_Resize.__name__ = "Resize"

_SINGLE, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


class Float64Twin:
    """A model that computes in float64 what ``model`` computes in float32.

    Parameters
    ----------
    model : self-contained, standard operators only; not modified
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(double_precision(model), new_ops=[_MaxPool, _Resize])
        self._outputs = [output.name for output in model.graph.output]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Evaluate; floating inputs are widened, outputs come by name."""
        wide = {
            name: value.astype(np.float64) if np.issubdtype(value.dtype, np.floating) else value
            for name, value in inputs.items()
        }
        return dict(zip(self._outputs, self._evaluator.run(None, wide), strict=True))


def double_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Widen every float32 in a model: parameters, constants, casts, inputs and outputs."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    wide = [_widened(tensor) for tensor in graph.initializer]
    del graph.initializer[:]
    graph.initializer.extend(wide)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.CopyFrom(_widened(attribute.t))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == _SINGLE:
                attribute.i = _DOUBLE
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _SINGLE:
            value.type.tensor_type.elem_type = _DOUBLE
    del graph.value_info[:]
    _ungroup_transposed_convolutions(graph)
    return twin


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != _SINGLE:
        return tensor
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _ungroup_transposed_convolutions(graph: onnx.GraphProto) -> None:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        group = next((entry for entry in node.attribute if entry.name == "group"), None)
        if node.op_type != "ConvTranspose" or group is None or group.i == 1:
            continue
        name = f"{node.input[1]}.dense"
        if name not in weights:
            dense = block_dense(onnx.numpy_helper.to_array(weights[node.input[1]]), group.i)
            weights[name] = onnx.numpy_helper.from_array(dense, name)
            graph.initializer.append(weights[name])
        node.input[1] = name
        group.i = 1


def block_dense(weight: NDArray[Any], group: int) -> NDArray[Any]:
    """Write the weight of a grouped transposed convolution (C, M / group, k..) as (C, M, k..) without groups."""
    channels, share = weight.shape[:2]
    dense = np.zeros((channels, share * group, *weight.shape[2:]), weight.dtype)
    for part, rows in enumerate(np.split(np.arange(channels), group)):
        dense[rows, part * share : (part + 1) * share] = weight[rows]
    return dense
