"""The surrogate that a straight-through map describes, as a model of its own: every rounding frozen at one batch.

Near inputs x0, ``y = clip(v, lo, hi) + (rounded(v0) - clip(v0, lo, hi))`` takes the place of each rounding of a value
v, where v0 is its value at x0 and lo, hi are the edges of the quantized range. At x0 it equals the quantized model, and
round x0 it is a function with a derivative of its own, which is the straight-through one: so finite differences of it
can prove a straight-through gradient without looking at any rule.

Rounded values are often equal, and max pooling has a kink where they are. Its inputs are tilted by a fraction of a
step, so that the first of equal values wins by a little; the rounding behind the pool takes the tilt away again.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.explain.float64_rounding import known_arrays
from clearweight.exporter.graph.quantized_names import Rounding, roundings

Array = NDArray[np.float64]

_HALF_STEP = 0.5
_TILT = 0.25  # of a step, over the whole map
_FROZEN = "frozen."


def frozen_rounding(model: onnx.ModelProto, x: NDArray[np.floating[Any]]) -> onnx.ModelProto:
    """Freeze the roundings of a quantized model at a batch; a model without any comes back as it is.

    Parameters
    ----------
    model : self-contained, one input
    x : (n, ...)

    Returns
    -------
    A model for float64 evaluation that takes k n rows, k >= 1, of which row i is near ``x[i % n]``
    """
    if not roundings(model.graph):
        return model
    frozen = onnx.ModelProto()
    frozen.CopyFrom(model)
    graph = frozen.graph
    _tilt_pools(graph, _values_at(model, x))
    at = _values_at(frozen, x)
    scales = known_arrays(graph)
    entries = roundings(graph)
    for entry in entries:
        low, high = edges(entry, scales, at[entry.value].ndim)
        offset = at[entry.rounded] - np.clip(at[entry.value], low, high)
        _replace(graph, entry.dequantize, _clipped_and_offset(graph, entry, low, high, offset))
    read = {name for node in graph.node for name in node.input}
    for entry in entries:
        if entry.quantize.output[0] not in read:
            graph.node.remove(entry.quantize)
    return frozen


def edges(entry: Rounding, constants: dict[str, NDArray[Any]], rank: int) -> tuple[Array, Array]:
    """Return between which values a rounding does not clip: half a step beyond the range of the integers."""
    scale = constants[entry.quantize.input[1]].astype(np.float64)
    zero = constants[entry.quantize.input[2]] if len(entry.quantize.input) > 2 else np.zeros((), np.uint8)
    limits = np.iinfo(zero.dtype)
    low = (limits.min - _HALF_STEP - zero.astype(np.float64)) * scale
    high = (limits.max + _HALF_STEP - zero.astype(np.float64)) * scale
    if low.size == 1:
        return low.reshape(()), high.reshape(())
    axis = next((attribute.i for attribute in entry.quantize.attribute if attribute.name == "axis"), 1)
    shape = [-1 if at == axis % rank else 1 for at in range(rank)]
    return low.reshape(shape), high.reshape(shape)


def _values_at(model: onnx.ModelProto, x: NDArray[np.floating[Any]]) -> dict[str, Array]:
    """Evaluate what goes into each rounding and what comes out."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    parameters = {tensor.name for tensor in model.graph.initializer}
    source = next(value.name for value in model.graph.input if value.name not in parameters)
    wanted = {name for entry in roundings(model.graph) for name in (entry.value, entry.rounded)} - {source}
    del opened.graph.output[:]
    for name in sorted(wanted):
        opened.graph.output.add(name=name).type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return {source: x.astype(np.float64), **Float64Twin(opened).run({source: x})}


def _tilt_pools(graph: onnx.GraphProto, at: dict[str, Array]) -> None:
    """Let max pooling read ``y - tilt``, the tilt growing along rows and, slower, along columns."""
    scales = known_arrays(graph)
    rounded = {entry.rounded: entry for entry in roundings(graph)}
    for node in [node for node in graph.node if node.op_type == "MaxPool" and node.input[0] in rounded]:
        y = node.input[0]
        kernel = next(list(entry.ints) for entry in node.attribute if entry.name == "kernel_shape")
        tilt, weight = np.zeros(()), 1.0
        for size, width in zip(at[y].shape[:1:-1], kernel[::-1], strict=True):  # the last axis first
            tilt = np.add.outer(weight * np.arange(size), tilt)
            weight *= width
        step = float(scales[rounded[y].quantize.input[1]].min())
        lowered, amount = f"{_FROZEN}{node.output[0]}.tilted", f"{_FROZEN}{node.output[0]}.tilt"
        array = np.asarray(_TILT * step * tilt / max(1.0, tilt.max()))
        graph.initializer.append(onnx.numpy_helper.from_array(array, amount))
        position = list(graph.node).index(node)
        node.input[0] = lowered
        graph.node.insert(position, onnx.helper.make_node("Sub", [y, amount], [lowered]))


def _clipped_and_offset(
    graph: onnx.GraphProto, entry: Rounding, low: Array, high: Array, offset: Array
) -> list[onnx.NodeProto]:
    """Write ``clip(v, lo, hi) + offset``, the offset repeated for every n rows."""
    arrays = {
        "low": low,
        "high": high,
        "offset": offset,
        "split": np.array([-1, *offset.shape], np.int64),
        "whole": np.array([-1, *offset.shape[1:]], np.int64),
    }

    def own(part: str) -> str:
        return f"{_FROZEN}{entry.rounded}.{part}"

    for part, array in arrays.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), own(part)))
    steps = [
        ("Max", [entry.value, own("low")], own("raised")),
        ("Min", [own("raised"), own("high")], own("clipped")),
        ("Reshape", [own("clipped"), own("split")], own("by_batch")),
        ("Add", [own("by_batch"), own("offset")], own("shifted")),
        ("Reshape", [own("shifted"), own("whole")], entry.rounded),
    ]
    return [onnx.helper.make_node(op_type, inputs, [output]) for op_type, inputs, output in steps]


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, by: list[onnx.NodeProto]) -> None:
    position = list(graph.node).index(node)
    graph.node.remove(node)
    for other in reversed(by):
        graph.node.insert(position, other)
