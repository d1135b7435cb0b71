"""Large parameters outside the model: in a file of their own, which every graph of a network refers to.

A protobuf message holds its numbers itself, so that every graph, every check and every session makes copies of all of
them. Here an initializer of a megabyte or more is ONNX external data: graphs stay small whatever the network, sessions
map the file instead of reading it, and everybody else reads one tensor at a time.

Locations are relative to the root of the file system, so that a graph says all by itself where its numbers are.
"""

import ctypes
import functools
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

# Bytes from which on a parameter is worth a file.
LEAST = 1 << 20
SUFFIX = ".parameters"
ROOT = Path(tempfile.gettempdir()).resolve().anchor
_PAGE = 4096
# Names of settings in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def lies_outside(tensor: onnx.TensorProto) -> bool:
    """Tell whether the numbers of an initializer are in a file of `move_outside`."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL and _place(tensor)["location"].endswith(SUFFIX)


def numbers(tensor: onnx.TensorProto) -> NDArray[Any]:
    """Return the array of an initializer; one outside is mapped, read-only, for as long as the array lives."""
    if not lies_outside(tensor):
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    place, dtype = _place(tensor), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    path = Path(ROOT, place["location"])
    return np.asarray(np.memmap(path, dtype, "r", int(place["offset"]), tuple(tensor.dims)))


class Parameters(Mapping[str, NDArray[Any]]):
    """The arrays of a model's initializers by name, in the graph's order; each is read when it is asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return numbers(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def move_outside(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return the model with its large float32 initializers in a new file in the folder; the argument is used up.

    What is outside already stays where it is.
    """
    give_back_at_once()
    with new_file(folder) as file:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and not lies_outside(tensor) and is_large(tensor):
                put(numbers(tensor), tensor, file)
    # A message gives its memory back only as a whole.
    small = onnx.ModelProto()
    small.CopyFrom(model)
    return small


def new_file(folder: Path) -> Any:
    """Open a file for parameters, to be closed by the caller; it lasts as long as the folder."""
    return tempfile.NamedTemporaryFile(dir=folder, suffix=SUFFIX, delete=False)


def is_large(tensor: onnx.TensorProto) -> bool:
    """Tell whether a float32 initializer is worth a file."""
    return 4 * math.prod(tensor.dims) >= LEAST


def put(values: NDArray[np.float32], tensor: onnx.TensorProto, file: Any) -> None:
    """Append an array to a file of `new_file` and let an initializer refer to it."""
    file.seek(-(-file.tell() // _PAGE) * _PAGE)
    location = Path(file.name).resolve().relative_to(ROOT).as_posix()
    place = {"location": location, "offset": file.tell(), "length": values.nbytes}
    file.write(np.ascontiguousarray(values, "<f4").data.cast("B"))
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))


def check(model: onnx.ModelProto, *, full: bool = False) -> None:
    """Let onnx check a model: of parameters outside what the graph says of them.

    Raises
    ------
    onnx.checker.ValidationError, onnx.shape_inference.InferenceError
    """
    onnx.checker.check_model(with_declared(model), full_check=full)


def with_declared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the parameters outside declared as inputs; itself where there are none."""
    if not has_outside(model):
        return model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    declared = {value.name for value in model.graph.input}
    del bare.graph.initializer[:]
    for tensor in model.graph.initializer:
        if not lies_outside(tensor):
            bare.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            bare.graph.input.append(value)
    return bare


def has_outside(model: onnx.ModelProto) -> bool:
    """Tell whether a model has parameters outside."""
    return any(map(lies_outside, model.graph.initializer))


def let_read(options: ort.SessionOptions) -> None:
    """Let a session read parameters outside: where they lie, without a copy in the layout of the kernels."""
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", ROOT)
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Activations are as large as the network: what one run took is given back.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False


@functools.cache
def give_back_at_once() -> None:
    """Let the system have every large buffer as soon as it is freed, from now on.

    glibc learns to keep what it sees freed, up to 32 MB a buffer: layer by layer a large network leaves more behind
    than it holds. Other C libraries are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_MMAP_THRESHOLD, LEAST)
        tune(_TRIM_THRESHOLD, 16 * LEAST)


def _place(tensor: onnx.TensorProto) -> dict[str, str]:
    return {"location": "", **{entry.key: entry.value for entry in tensor.external_data}}
