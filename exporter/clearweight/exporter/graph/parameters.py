"""The structure of a model apart from its numbers."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.exporter.graph.errors import ParameterError
from clearweight.exporter.outside import is_large, lies_outside, new_file, numbers, put

LOCATION = "weights.cwt"


def split_parameters(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Take the parameters out of a canonical model.

    Returns
    -------
    structure : the same graph with every initializer external, at ``weights.cwt`` without an offset
        A runtime hands the numbers in by name (``SessionOptions.add_external_initializers``).
    parameters : name to array, in the graph's order

    Raises
    ------
    ParameterError
        The model was split before: an initializer carries no numbers.
    """
    return structure_of(model), {tensor.name: np.array(numbers(tensor)) for tensor in model.graph.initializer}


def structure_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the structure alone, as `split_parameters` does."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not lies_outside(tensor):
            raise ParameterError(
                f"Parameter {tensor.name!r} is external already, expected its numbers inside."
            )
    structure = onnx.ModelProto()
    structure.CopyFrom(model)
    for tensor in structure.graph.initializer:
        bare = onnx.TensorProto(
            name=tensor.name, data_type=tensor.data_type, data_location=onnx.TensorProto.EXTERNAL
        )
        bare.dims.extend(tensor.dims)
        bare.external_data.add(key="location", value=LOCATION)
        tensor.CopyFrom(bare)
    return structure


def embed_parameters(
    structure: onnx.ModelProto, parameters: Mapping[str, NDArray[Any]], folder: Path | None = None
) -> onnx.ModelProto:
    """Put the numbers back: the inverse of ``split_parameters``.

    Parameters that the graph does not name are an error too: they would be lost in silence.

    Parameters
    ----------
    parameters : each is asked for once
    folder : where large ones are written, outside the model; None has all inside

    Raises
    ------
    ParameterError
        A name is missing or unknown, or a shape or type differs from the graph's.
    """
    model = onnx.ModelProto()
    model.CopyFrom(structure)
    wanted = {tensor.name for tensor in model.graph.initializer}
    if wanted != set(parameters):
        raise ParameterError(
            f"Parameters differ from the graph's: missing {sorted(wanted - set(parameters))}, "
            f"unknown {sorted(set(parameters) - wanted)}."
        )
    with nullcontext() if folder is None else new_file(folder) as file:
        for tensor in model.graph.initializer:
            array = parameters[tensor.name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            if array.shape != tuple(tensor.dims) or array.dtype != dtype:
                raise ParameterError(
                    f"Parameter {tensor.name!r} has shape {array.shape} and type {array.dtype}, "
                    f"expected {tuple(tensor.dims)} and {dtype}."
                )
            if file is not None and dtype == np.float32 and is_large(tensor):
                del tensor.external_data[:]
                put(array, tensor, file)
            else:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array, order="C"), tensor.name))
    return model
