"""Open Inference Protocol messages to the core's types and back."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.core.classification import CLASSIFICATION, check_count
from clearweight.service.core.datatypes import DATATYPES, Datatype, datatype, from_bytes, to_bytes
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Scalar, Tensor
from clearweight.service.core.validation import check_shape
from clearweight.service.rpc.generated import open_inference_pb2 as oip

CONTENTS: dict[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Typed field per datatype; FP16 and BF16 travel raw only."""
_KEPT = 64


def decode_infer(request: oip.ModelInferRequest, limits: Limits) -> InferRequest:
    """Read a ModelInferRequest.

    Raises
    ------
    InvalidRequestError
        Raw entries that do not match the inputs, raw together with typed contents, or a typed field that does not
        belong to the datatype.
    """
    inputs, raws, outputs = request.inputs, request.raw_input_contents, request.outputs
    if not inputs:
        raise InvalidRequestError("The request has no inputs, expected at least one tensor.")
    if raws and len(raws) != len(inputs):
        raise InvalidRequestError(f"There are {len(raws)} raw entries for {len(inputs)} inputs.")
    tensors = []
    for index, entry in enumerate(inputs):
        name = entry.name  # every access to a message's field makes an object anew
        kind = DATATYPES.get(entry.datatype) or datatype(entry.datatype, f"Input {name!r}")
        shape = check_shape(name, list(entry.shape), limits)
        if raws:
            if entry.HasField("contents") and entry.contents.ListFields():
                raise InvalidRequestError(f"Input {name!r} has both raw and typed contents.")
            values = from_bytes(name, kind, shape, raws[index])
        else:
            values = _read_contents(name, kind, shape, entry.contents)
        tensors.append(Tensor(name, kind.name, values))
    return InferRequest(
        request.model_name,
        request.model_version or None,
        tuple(tensors),
        tuple([output.name for output in outputs]) or None,
        decode_parameters(request.parameters) if request.parameters else {},
        request.id or None,
        _classification(outputs) if outputs else {},
    )


def encode_infer(response: InferResponse, *, raw: bool) -> oip.ModelInferResponse:
    """Write a ModelInferResponse, raw exactly when the request was."""
    message = oip.ModelInferResponse(model_name=response.model, model_version=response.version)
    if response.id is not None:
        message.id = response.id
    if response.parameters:
        given = response.parameters.items()
        message.MergeFrom(_with_parameters(tuple([(key, type(value), value) for key, value in given])))
    for tensor in response.outputs:
        kind = DATATYPES[tensor.datatype]
        entry = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if raw:
            message.raw_output_contents.append(to_bytes(kind, tensor.values))
        else:
            _write_contents(kind, tensor.values, entry.contents)
    return message


@lru_cache(_KEPT)
def _with_parameters(parameters: tuple[tuple[str, type, Scalar], ...]) -> oip.ModelInferResponse:
    """Return a message of these parameters alone; most replies of an explainer have the same.

    With their types: 1 and True are equal.
    """
    message = oip.ModelInferResponse()
    encode_parameters({key: value for key, _, value in parameters}, message.parameters)
    return message


def _classification(
    outputs: Iterable[oip.ModelInferRequest.InferRequestedOutputTensor],
) -> dict[str, int]:
    asked = {output.name: decode_parameters(output.parameters) for output in outputs if output.parameters}
    return {
        name: check_count(parameters[CLASSIFICATION], name)
        for name, parameters in asked.items()
        if CLASSIFICATION in parameters
    }


def decode_parameters(parameters: Mapping[str, oip.InferParameter]) -> dict[str, Scalar]:
    """Read protocol parameters; one without a value is refused."""
    found: dict[str, Scalar] = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequestError(f"Parameter {key!r} has no value.")
        found[key] = getattr(parameter, choice)
    return found


def encode_parameters(parameters: Mapping[str, Scalar], into: Any) -> None:
    """Write protocol parameters into a message's map."""
    for key, value in parameters.items():
        if isinstance(value, bool):
            into[key].bool_param = value
        elif isinstance(value, int):
            into[key].int64_param = value
        elif isinstance(value, str):
            into[key].string_param = value
        else:
            into[key].double_param = value


def _read_contents(
    name: str, kind: Datatype, shape: tuple[int, ...], contents: oip.InferTensorContents
) -> NDArray[Any]:
    field = CONTENTS.get(kind.name)
    if field is None:
        raise InvalidRequestError(f"Input {name!r} has datatype {kind.name}, which travels raw only.")
    surplus = [found.name for found, _ in contents.ListFields() if found.name != field]
    if surplus:
        raise InvalidRequestError(f"Input {name!r} is {kind.name} but fills {surplus[0]}, expected {field}.")
    items = getattr(contents, field)
    count = int(np.prod(shape, dtype=np.int64))
    if len(items) != count:
        raise InvalidRequestError(
            f"Input {name!r} has {len(items)} elements, but its shape {list(shape)} needs {count}."
        )
    if kind.dtype.kind == "O":
        values = np.empty(count, dtype=object)
        values[:] = list(items)
        return values.reshape(shape)
    wide = np.array(items, dtype=np.uint64 if kind.dtype.kind == "u" else None)
    values = wide.astype(kind.dtype)
    if kind.json == "integer" and not np.array_equal(values, wide):
        raise InvalidRequestError(f"Input {name!r} holds an element out of range of {kind.name}.")
    return values.reshape(shape)


def _write_contents(kind: Datatype, values: NDArray[Any], contents: oip.InferTensorContents) -> None:
    field = CONTENTS.get(kind.name)
    if field is None:
        raise InvalidRequestError(f"An output is {kind.name}, which travels raw only: send raw inputs.")
    getattr(contents, field).extend(values.ravel().tolist())
