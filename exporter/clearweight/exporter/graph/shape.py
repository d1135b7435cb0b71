"""Shapes of all intermediate values, with the batch as the one free axis."""

import math

import onnx

from clearweight.exporter.graph.errors import UnsupportedModelError

BATCH = "N"
_PROBES = (2, 3)

Dims = list[int | str | None]


def free_batch(model: onnx.ModelProto) -> None:
    """Name the first axis of the input and output ``N`` and write every intermediate shape.

    Shapes are inferred for two batch sizes: an axis on which both agree is fixed, any other is written
    as a multiple of ``N``. This also proves that nothing in the graph fixes the batch.

    Raises
    ------
    UnsupportedModelError
        The graph is ill-formed or hard-codes a batch size.
    """
    small, large = (_inferred(model, batch) for batch in _PROBES)
    produced = {name for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    shapes = {}
    for name in produced:
        if name in small and name in large:
            shapes[name] = combined(small[name], large[name])
    for value in model.graph.output:
        dims = shapes.get(value.name)
        if dims is None or not dims or dims[0] != BATCH:
            raise UnsupportedModelError(
                f"Output {value.name!r} has shape {_shown(dims)}, expected (N, ...): the graph fixes the batch size."
            )
        write_shape(value, value.type.tensor_type.elem_type, dims)
    source = model.graph.input[0]
    source.type.tensor_type.shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]
    for node in model.graph.node:
        for name in node.output:
            if name in shapes and name not in outputs and node.op_type != "Constant":
                write_shape(model.graph.value_info.add(name=name), small[name][0], shapes[name])


def _inferred(model: onnx.ModelProto, batch: int) -> dict[str, tuple[int, Dims]]:
    """Infer type and shape of every value at one batch size; parameters stand in by their shape alone."""
    probe = onnx.ModelProto()
    probe.ir_version = model.ir_version
    probe.opset_import.extend(model.opset_import)
    graph = probe.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    for source in model.graph.input:
        entry = graph.input.add()
        entry.CopyFrom(source)
        entry.type.tensor_type.shape.dim[0].dim_value = batch
    for tensor in model.graph.initializer:
        write_shape(graph.input.add(name=tensor.name), tensor.data_type, list(tensor.dims))
    for output in model.graph.output:
        entry = graph.output.add(name=output.name)
        entry.type.tensor_type.elem_type = output.type.tensor_type.elem_type
    try:
        known = onnx.shape_inference.infer_shapes(probe, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise UnsupportedModelError(
            f"The graph does not work for a batch of {batch}, so it fixes its batch size or is ill-formed: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from error
    found: dict[str, tuple[int, Dims]] = {}
    for value in (*known.graph.value_info, *known.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = (kind.elem_type, [_dim(dim) for dim in kind.shape.dim])
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") else None


def combined(small: tuple[int, Dims], large: tuple[int, Dims]) -> Dims:
    """Write each axis as a number, or as its growth per sample."""
    combined: Dims = []
    for first, second in zip(small[1], large[1], strict=True):
        if first == second or not isinstance(first, int) or not isinstance(second, int):
            combined.append(first if first == second else None)
        else:
            growth = second - first
            rest = first - growth * _PROBES[0]
            text = BATCH if growth == 1 else f"{growth}*{BATCH}"
            combined.append(text if rest == 0 else f"{text}+{rest}")
    return combined


def write_shape(value: onnx.ValueInfoProto, element: int, dims: Dims) -> None:
    """State element type and shape of a value; None is a dimension that stays open."""
    tensor = value.type.tensor_type
    tensor.elem_type = element
    tensor.ClearField("shape")
    tensor.shape.SetInParent()
    for dim in dims:
        entry = tensor.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim


def row_elements(model: onnx.ModelProto) -> int:
    """Return how many elements one row has in all values whose shape the model states."""
    return sum(
        math.prod(
            dim.dim_value for dim in list(value.type.tensor_type.shape.dim)[1:] if dim.HasField("dim_value")
        )
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].HasField("dim_param")
    )


def _shown(dims: Dims | None) -> str:
    return "unknown" if dims is None else f"({', '.join('?' if dim is None else str(dim) for dim in dims)})"
