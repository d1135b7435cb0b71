"""The float64 twin of a float32 graph, and its evaluation by onnx's reference implementation.

ONNX Runtime has no float64 convolution, so the twin runs on ``onnx.reference``, whose faults it goes round (onnx
1.23): transposed convolutions crash with groups and take minutes without, so convolutions are done in
``float64_convolution``; MaxPool is slow, its Indices wrong at stride 1, so it is done in ``float64_pooling``;
GroupNormalization has one scale per group at every opset, Erf is rounded to single precision and LRN fills as many
channels as there are rows, so all three are computed here. Resize was right but slow before onnx 1.23, so whole
repetition, the only kind that gradients emit, is done by numpy.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_gemm import Gemm_7 as ReferenceGemm
from onnx.reference.ops.op_resize import Resize as ReferenceResize

from clearweight.exporter.autodiff.node import values_read
from clearweight.exporter.explain.float64_convolution import CONVOLUTION
from clearweight.exporter.explain.float64_pooling import POOLING
from clearweight.exporter.explain.float64_rounding import ROUNDING, dequantize_parameters
from clearweight.exporter.graph.matmul_nbits import standard_operators
from clearweight.exporter.graph.shape import BATCH, row_elements
from clearweight.exporter.outside import lies_outside, numbers, with_declared


class _Resize(ReferenceResize):
    """Whole repetition, the only kind that gradients emit, by numpy; all else as the reference does it."""

    op_domain = ""

    def _run(self, x: NDArray[Any], *sizing: Any, **attributes: Any) -> Any:  # type: ignore[override]  # as it is called
        scales = np.asarray(sizing[1] if len(sizing) > 1 and sizing[1] is not None else [])
        plain = (attributes.get("coordinate_transformation_mode"), attributes.get("nearest_mode"))
        whole = len(scales) == x.ndim and np.equal(scales, np.round(scales)).all()
        if attributes.get("mode") != "nearest" or not whole or plain != ("asymmetric", "floor"):
            return super()._run(x, *sizing, **attributes)
        for axis, count in enumerate(scales.astype(int)):
            x = x.repeat(count, axis=axis)
        return (x,)


_Resize.__name__ = "Resize"


class _GroupNormalization(OpRun):
    """Group norm with scale and bias per group (opset 18) or per channel (opset 21)."""

    op_domain = ""

    def _run(
        self, x: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any], **attributes: Any
    ) -> tuple[NDArray[Any]]:
        grouped = x.reshape(len(x), attributes["num_groups"], -1)
        centred = grouped - grouped.mean(axis=2, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=2, keepdims=True) + attributes["epsilon"])
        each = (-1, *[1] * (x.ndim - 2))
        scale, bias = (np.repeat(value, x.shape[1] // value.size).reshape(each) for value in (scale, bias))
        return ((centred / deviation).reshape(x.shape) * scale + bias,)


_GroupNormalization.__name__ = "GroupNormalization"


class _Erf(OpRun):
    """The error function in double precision; the reference rounds it to single, which drowns a finite difference."""

    op_domain = ""

    def _run(self, x: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)


_Erf.__name__ = "Erf"


class _LRN(OpRun):
    """Local response normalisation for every channel."""

    op_domain = ""

    def _run(
        self, x: NDArray[Any], alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1
    ) -> tuple[NDArray[Any]]:
        before = (size - 1) // 2
        squares = np.zeros_like(x)
        for channel in range(x.shape[1]):
            window = slice(max(0, channel - before), channel - before + size)
            squares[:, channel] = (x[:, window] ** 2).sum(axis=1)
        return (x / (bias + alpha / size * squares) ** beta,)


_LRN.__name__ = "LRN"


class _Gemm(ReferenceGemm):
    """A product with a weight that is still in float32: widened some outputs at a time."""

    op_domain = ""

    def _run(self, a: NDArray[Any], b: NDArray[Any], c: NDArray[Any] | None = None, **settings: Any) -> Any:  # type: ignore[override]  # as it is called
        if b.dtype == a.dtype:
            return super()._run(a, b, c, **settings)  # type: ignore[no-untyped-call]  # onnx has no types here
        rows, weight = (a.T if settings["transA"] else a), (b.T if settings["transB"] else b)
        product = np.empty((len(rows), weight.shape[1]))
        step = max(1, _WIDENED // len(weight))
        for start in range(0, weight.shape[1], step):
            product[:, start : start + step] = rows @ weight[:, start : start + step].astype(np.float64)
        product *= settings["alpha"]
        return (product if c is None else product + settings["beta"] * c,)


_Gemm.__name__ = "Gemm"
_OPERATORS: list[Any] = [_Resize, _GroupNormalization, _Erf, _LRN, _Gemm, *CONVOLUTION, *POOLING, *ROUNDING]

# Elements of a weight that are widened at once, and bytes of the values of one evaluation.
_WIDENED = 1 << 23
_RUN_BYTES = 256 << 20
_SINGLE, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


class Float64Twin:
    """A model that computes in float64 what ``model`` computes in float32.

    Parameters of a file of their own are widened when they are read, and every value is dropped behind its last reader:
    a network takes little more than its largest layer and what its way back needs.

    Parameters
    ----------
    model : standard operators and packed products (MatMulNBits) only; not modified
    rows : how many rows are evaluated at once, of a model whose inputs or outputs have a free batch
    """

    def __init__(self, model: onnx.ModelProto, rows: int | None = None) -> None:
        standard = standard_operators(model)
        self._outside = {tensor.name: tensor for tensor in standard.graph.initializer if lies_outside(tensor)}
        self._evaluator = ReferenceEvaluator(double_precision(with_declared(standard)), new_ops=_OPERATORS)
        self._outputs = [output.name for output in model.graph.output]
        self._split = [entry.name for entry in model.graph.input if _has_batch(entry)]
        self._rows = rows if all(map(_has_batch, model.graph.output)) else None
        self._dropped = _last_read(
            self._evaluator.rt_nodes_, {*self._outputs, *self._evaluator.rt_inits_, ""}
        )

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Evaluate; floating inputs are widened, outputs come by name."""
        wide = {
            name: value.astype(np.float64) if np.issubdtype(value.dtype, np.floating) else value
            for name, value in inputs.items()
        }
        split = [name for name in self._split if name in wide]
        count = len(wide[split[0]]) if split else 0
        if self._rows is None or count <= self._rows:
            return self._evaluate(wide)
        parts = [
            self._evaluate(wide | {name: wide[name][start : start + self._rows] for name in split})
            for start in range(0, count, self._rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _evaluate(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        known: dict[str, Any] = {"": None, **self._evaluator.rt_inits_, **inputs}
        for node, dropped in zip(self._evaluator.rt_nodes_, self._dropped, strict=True):
            taken = [
                self._parameter(name, wide=node.op_type != "Gemm" or place != 1)
                if name in self._outside
                else known[name]
                for place, name in enumerate(node.input)
            ]
            if node.need_context():
                captured = values_read(node.onnx_node) & set(self._outside)
                around = known | {name: self._parameter(name, wide=True) for name in captured}
                made = node.run(*taken, context=around)
            else:
                made = node.run(*taken)
            known.update(zip(node.output, made, strict=False))
            for name in dropped:
                known.pop(name, None)
        return {name: known[name] for name in self._outputs}

    def _parameter(self, name: str, *, wide: bool) -> NDArray[Any]:
        values = numbers(self._outside[name])
        return values.astype(np.float64) if wide else values


def rows_at_once(model: onnx.ModelProto) -> int:
    """Return how many rows of a classifier to evaluate at once: their values take no more than ``_RUN_BYTES``."""
    return max(1, _RUN_BYTES // max(1, 8 * row_elements(model)))


def _has_batch(value: onnx.ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and dims[0].dim_param == BATCH


def _last_read(nodes: Sequence[Any], kept: Collection[str]) -> list[set[str]]:
    """Name, for every node, the values that nobody reads behind it."""
    dropped: list[set[str]] = []
    seen = set(kept)
    for node in reversed(nodes):
        touched = values_read(node.onnx_node) | set(node.output)
        dropped.append(touched - seen)
        seen |= touched
    return dropped[::-1]


def double_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Widen every float32 in a model: parameters, constants, casts, inputs and outputs."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    wide = [_widened(tensor) for tensor in graph.initializer]
    del graph.initializer[:]
    graph.initializer.extend(wide)
    dequantize_parameters(graph)
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
    return twin


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != _SINGLE:
        return tensor
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
