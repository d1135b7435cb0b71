"""BatchNormalization merged into the operator before it, for graphs that did not come from our torch fold."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_PRODUCERS = frozenset({"Conv", "ConvTranspose", "Gemm"})


def fold_batch_normalization(model: ir.Model) -> None:
    """Merge each inference BatchNormalization into the Conv, ConvTranspose or Gemm that feeds only it.

    The merge is done in float64 and rounded once. A BatchNormalization with another producer stays; its
    scale, bias, mean and variance are parameters then.
    """
    graph = model.graph
    for norm in list(graph):
        if norm.op_type != "BatchNormalization":
            continue
        norm.resize_outputs(1)
        producer = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        if producer is None or not _can_merge(producer, norm):
            continue
        _merge(graph, producer, norm)


def _can_merge(producer: ir.Node, norm: ir.Node) -> bool:
    output = producer.outputs[0]
    constants = [*producer.inputs[1:], *norm.inputs[1:]]
    return (
        producer.op_type in _PRODUCERS
        and norm.attributes.get_int("training_mode", 0) == 0
        and len(output.uses()) == 1
        and not output.is_graph_output()
        and all(value is not None and value.const_value is not None for value in constants)
        and (producer.op_type != "Gemm" or _is_plain(producer))
    )


def _is_plain(gemm: ir.Node) -> bool:
    attributes = gemm.attributes
    return (
        attributes.get_int("transA", 0) == 0
        and attributes.get_float("alpha", 1.0) == 1.0
        and attributes.get_float("beta", 1.0) == 1.0
    )


def _merge(graph: ir.Graph, producer: ir.Node, norm: ir.Node) -> None:
    """Y = gamma (w x + b - mean) / sqrt(var + eps) + beta, written as one linear map."""
    weight_value = producer.inputs[1]
    assert weight_value is not None  # noqa: S101 - _can_merge has seen it
    weight = _numbers(weight_value)
    gamma, beta, mean, variance = (_numbers(value) for value in norm.inputs[1:5])
    scale = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    bias = _numbers(producer.inputs[2]) if len(producer.inputs) > 2 else 0.0
    dtype = weight_value.const_value.numpy().dtype if weight_value.const_value is not None else np.float32
    merged = (weight * _per_output(scale, producer, weight)).astype(dtype)
    shift = ((bias - mean) * scale + beta).astype(dtype)
    producer.replace_input_with(1, _parameter(graph, weight_value, merged))
    bias_value = producer.inputs[2] if len(producer.inputs) > 2 else None
    root = str(weight_value.name).removesuffix("weight").removesuffix(".")
    fresh = ir.Value(name=_free(graph, f"{root}.bias" if root else "bias"))
    producer.resize_inputs(3)
    producer.replace_input_with(2, _parameter(graph, bias_value or fresh, shift))
    before, after = producer.outputs[0], norm.outputs[0]
    name, shape, kind = after.name, after.shape, after.type
    ir.convenience.replace_all_uses_with(after, before, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    before.name, before.shape, before.type = name, shape or before.shape, kind or before.type


def _numbers(value: ir.Value | None) -> NDArray[np.float64]:
    assert value is not None  # noqa: S101 - _can_merge has seen both
    assert value.const_value is not None  # noqa: S101 - same
    return value.const_value.numpy().astype(np.float64)


def _per_output(
    scale: NDArray[np.float64], producer: ir.Node, weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shape the scale of each output so that it multiplies the producer's weight."""
    spatial = (1,) * (weight.ndim - 2)
    if producer.op_type == "Conv":
        return scale.reshape(-1, 1, *spatial)
    if producer.op_type == "Gemm":
        return scale.reshape(-1, 1) if producer.attributes.get_int("transB", 0) else scale.reshape(1, -1)
    groups = producer.attributes.get_int("group", 1)
    per_group = np.repeat(scale.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return per_group.reshape(weight.shape[0], -1, *spatial)


def _parameter(graph: ir.Graph, old: ir.Value, array: NDArray[np.float32]) -> ir.Value:
    """Put new numbers under an old name, or beside it while others still read the old ones."""
    name = str(old.name)
    if len(old.uses()) > 1:
        name = _free(graph, f"{name}.merged")
    elif name in graph.initializers:
        del graph.initializers[name]
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def _free(graph: ir.Graph, name: str) -> str:
    candidate, number = name, 1
    while candidate in graph.initializers:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
