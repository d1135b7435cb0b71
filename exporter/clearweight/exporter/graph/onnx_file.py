"""Reading an ONNX file that somebody else wrote: whole and checked, or refused by what is wrong with it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from clearweight.exporter.graph.errors import OnnxFileError
from clearweight.exporter.outside import check, move_outside

# Protobuf cannot write a message of more bytes than this, and an explain graph holds the whole model.
MAX_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Facts:
    """What a file says of itself.

    Attributes
    ----------
    inputs, outputs : as "name TYPE[shape]", parameters left out
    parameters : elements of all initializers
    operators : name -> how many nodes, of the main graph
    """

    opset: int
    ir_version: int
    domains: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    nodes: int
    operators: dict[str, int]


def read_onnx(path: Path, folder: Path | None = None) -> onnx.ModelProto:
    """Read a file with its external data, and let onnx check it.

    Parameters
    ----------
    folder : where large parameters are put, outside the model; None keeps all inside

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    OnnxFileError
        It is no ONNX model, is cut off, lacks its external data, is too large, or contradicts the ONNX
        specification.
    """
    if path.is_dir():
        raise OnnxFileError(f"{path} is a folder, expected an ONNX file.")
    if path.stat().st_size > MAX_BYTES:
        raise OnnxFileError(f"{path} holds {path.stat().st_size} bytes, at most {MAX_BYTES} can be read.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise OnnxFileError(f"{path} is no ONNX file, or only a part of one: {error}.") from error
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise OnnxFileError(
            f"{path} is no ONNX model: it states IR version {model.ir_version}, {len(model.opset_import)} opsets and "
            f"{len(model.graph.node)} nodes, expected at least one of each."
        )
    _take_in(model, path)
    try:
        if folder is not None:
            model = move_outside(model, folder)
        check(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise OnnxFileError(f"{path} is not valid ONNX: {_first_line(error)}") from error
    return model


def _take_in(model: onnx.ModelProto, path: Path) -> None:
    """Load tensors that lie in other files, none of them outside the model's folder."""
    external = [
        tensor
        for tensor in external_data_helper._get_all_tensors(model)  # noqa: SLF001  # onnx lists them nowhere else
        if external_data_helper.uses_external_data(tensor)
    ]
    stated = sum(
        int(entry.value)
        for tensor in external
        for entry in tensor.external_data
        if entry.key == "length" and entry.value.isdigit()
    )
    if stated + path.stat().st_size > MAX_BYTES:
        raise OnnxFileError(
            f"{path} has {stated} bytes of external data, which do not fit one file of {MAX_BYTES} bytes."
        )
    for tensor in external:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            where = external_data_helper.ExternalDataInfo(tensor).location
            raise OnnxFileError(
                f"{path} keeps tensor {tensor.name!r} in {where!r}, which cannot be read from {path.parent}: "
                f"{_first_line(error)}"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def facts(model: onnx.ModelProto) -> Facts:
    """Describe a model."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    own = [entry for entry in model.graph.input if entry.name not in initializers]
    operators = Counter(
        f"{node.domain}::{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
        for node in model.graph.node
    )
    return Facts(
        opset=opset_of(model),
        ir_version=model.ir_version,
        domains=tuple(sorted({entry.domain or "ai.onnx" for entry in model.opset_import})),
        inputs=tuple(described(entry) for entry in own),
        outputs=tuple(described(entry) for entry in model.graph.output),
        parameters=sum(_elements(tensor) for tensor in model.graph.initializer),
        nodes=len(model.graph.node),
        operators=dict(sorted(operators.items())),
    )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset of the standard domain; 0 if the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)


def described(value: onnx.ValueInfoProto) -> str:
    """Write an input or output as "name TYPE[shape]"."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return f"{value.name} ({value.type.WhichOneof('value') or 'no type'})"
    name = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return f"{value.name} {name}[?]"
    dims = [
        str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim
    ]
    return f"{value.name} {name}[{', '.join(dims)}]"


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
