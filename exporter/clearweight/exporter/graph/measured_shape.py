"""Shapes that inference leaves open, measured: the model is run, and what comes out has a shape.

Tracers write sizes as computations (``Shape``, ``Gather``, ``Where``) that onnx's inference follows only so far: the
class token of a transformer, expanded to the batch, loses every dimension. Two batch sizes and two inputs of each tell
which dimensions are fixed and which grow with the batch.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.session import session
from clearweight.exporter.graph.shape import Dims, combined, write_shape

_BATCHES = (2, 3)
# What these return depends on the values that they see: a measured shape would be that of one input.
_BY_VALUE = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})


def state_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """State the shape of every value that has none yet, or an incomplete one.

    Parameters
    ----------
    model : one float32 input whose batch is free, named ``N`` where it is stated; not modified

    Returns
    -------
    The model itself where nothing is missing, or where shapes may depend on values.
    """
    missing = _unknown(model)
    if not missing or any(node.op_type in _BY_VALUE for node in model.graph.node):
        return model
    measured = [_measure(model, missing, batch) for batch in _BATCHES]
    stated = onnx.ModelProto()
    stated.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    kept = [value for value in model.graph.value_info if value.name not in missing]
    del stated.graph.value_info[:]
    stated.graph.value_info.extend(kept)
    for name in missing:
        small, large = (found.get(name) for found in measured)
        if small is None or large is None or len(small[1]) != len(large[1]) or name in outputs:
            continue
        write_shape(stated.graph.value_info.add(name=name), small[0], combined(small, large))
    return stated


def _unknown(model: onnx.ModelProto) -> list[str]:
    """Name the values of the main graph whose shape is not stated in full, in order."""
    stated = {
        value.name
        for value in (*model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") or _says_batch(dim) for dim in value.type.tensor_type.shape.dim)
    }
    return [
        name
        for node in model.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if name and name not in stated
    ]


def _says_batch(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Tell whether an open dimension is the batch or a multiple of it, and no name that inference made up."""
    return dim.HasField("dim_param") and not dim.dim_param.startswith("unk__")


def _measure(model: onnx.ModelProto, names: Sequence[str], batch: int) -> dict[str, tuple[int, Dims]]:
    """Return element type and shape at one batch size; a dimension that differs between two inputs is None."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    runtime = session(opened)
    (source,) = runtime.get_inputs()
    row = [int(size) for size in source.shape[1:]]
    runs = [runtime.run(None, {source.name: _draw(seed, (batch, *row))}) for seed in (0, 1)]
    found: dict[str, tuple[int, Dims]] = {}
    for name, first, second in zip(names, *runs, strict=True):
        if isinstance(first, np.ndarray) and first.ndim == second.ndim:
            same: Dims = [a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)]
            found[name] = (int(onnx.helper.np_dtype_to_tensor_dtype(first.dtype)), same)
    return found


def _draw(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
