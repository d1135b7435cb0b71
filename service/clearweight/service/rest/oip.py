"""Open Inference Protocol bodies, JSON and binary, to the core's types and back.

Sources: Open Inference Protocol, REST; binary tensor data extension (Triton's form, also KServe's). The text is
parsed once and its arrays are read straight into tensors; no schema library stands in between.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from numpy.typing import NDArray

from clearweight.artifact import TensorSpec
from clearweight.service.core.classification import CLASSIFICATION, check_count
from clearweight.service.core.datatypes import DATATYPES, datatype, from_bytes, from_json, to_bytes, to_json
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Tensor
from clearweight.service.core.validation import check_parameters, check_shape

HEADER_LENGTH = b"inference-header-content-length"


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """Which outputs go out as binary: the default, and what single outputs asked for."""

    binary: bool = False
    per_output: dict[str, bool] = field(default_factory=dict)


def decode_infer(
    model: str, version: str | None, body: bytes, header_length: bytes | None, limits: Limits
) -> tuple[InferRequest, ReplyForm]:
    """Read an infer or explain body.

    Parameters
    ----------
    header_length : bytes or None
        The header ``Inference-Header-Content-Length``; None when the whole body is JSON.

    Raises
    ------
    InvalidRequestError, TooLargeError
        What is wrong, and where.
    """
    head, rest = _split(body, header_length)
    document = parse_object(head)
    parameters = check_parameters(document.get("parameters", {}), "the request")
    entries = document.get("inputs")
    if not isinstance(entries, list) or not entries:
        raise InvalidRequestError("The request has no 'inputs', expected a list of at least one tensor.")
    literals = holds_literal(head)
    tensors, at = [], 0
    for entry in entries:
        tensor, at = _decode_input(entry, rest, at, literals, limits)
        tensors.append(tensor)
    if rest is not None and at != len(rest):
        raise InvalidRequestError(
            f"The inputs take {at} binary bytes, but {len(rest)} follow the JSON header."
        )
    outputs, form, classification = _decode_outputs(
        document.get("outputs"), parameters.get("binary_data_output", False)
    )
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequestError(f"The id is a {type(identifier).__name__}, expected a string.")
    asked = InferRequest(model, version, tuple(tensors), outputs, parameters, identifier, classification)
    return asked, form


def decode_raw(
    model: str, version: str | None, specs: Sequence[TensorSpec], body: bytes, limits: Limits
) -> tuple[InferRequest, ReplyForm]:
    """Read a raw request (header length 0): the body is the one tensor, batch 1.

    Raises
    ------
    InvalidRequestError
        The model has several inputs or several variable dimensions, or the size is wrong.
    """
    if len(specs) != 1 or sum(size == -1 for size in specs[0].shape) > 1:
        raise InvalidRequestError(
            "A raw request needs a model with one input and at most one variable dimension; send a JSON header."
        )
    spec = specs[0]
    shape = check_shape(spec.name, [1 if size == -1 else size for size in spec.shape], limits)
    values = from_bytes(spec.name, DATATYPES[spec.datatype], shape, body)
    return InferRequest(model, version, (Tensor(spec.name, spec.datatype, values),)), ReplyForm(binary=True)


def encode_infer(response: InferResponse, form: ReplyForm) -> tuple[bytes, int | None]:
    """Write a reply body.

    Returns
    -------
    body : bytes
    header_length : int or None
        Bytes of the JSON part when binary tensors follow it, else None.

    Raises
    ------
    NonFiniteOutputError
        An output that must be JSON holds NaN or infinity.
    """
    entries, raws = [], []
    for tensor in response.outputs:
        kind = DATATYPES[tensor.datatype]
        entry: dict[str, Any] = {
            "name": tensor.name,
            "shape": tensor.values.shape,
            "datatype": tensor.datatype,
        }
        if form.per_output.get(tensor.name, form.binary):
            raw = to_bytes(kind, tensor.values)
            raws.append(raw)
            entry["parameters"] = {"binary_data_size": len(raw)}
        elif kind.json == "text" and not _is_text(tensor.values):
            entry["parameters"] = {"content_type": "base64"}
            entry["data"] = [base64.b64encode(item).decode() for item in tensor.values.ravel()]
        else:
            entry["data"] = to_json(tensor.name, kind, tensor.values)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id is not None:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = response.parameters
    document["outputs"] = entries
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join((head, *raws)), len(head)) if raws else (head, None)


def _is_text(values: NDArray[Any]) -> bool:
    try:
        for item in values.ravel():
            item.decode()
    except UnicodeDecodeError:
        return False
    return True


def parse_object(text: bytes | memoryview) -> dict[str, Any]:
    """Parse a JSON object; NaN and Infinity tokens are no JSON.

    Raises
    ------
    InvalidRequestError
        Malformed, or not an object.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidRequestError(f"The body is a JSON {type(document).__name__}, expected an object.")
    return document


def holds_literal(text: bytes | memoryview) -> bool:
    """Tell whether ``true`` or ``false`` stands anywhere in a JSON text.

    Looks for the letters u and l, which numbers never hold, so that long lists of numbers are passed over at
    memory speed instead of being asked element by element whether they are booleans.
    """
    data = bytes(text)
    for word, letter, offset in ((b"true", b"u", 2), (b"false", b"l", 2)):
        at = data.find(letter)
        while at != -1:
            if data[at - offset : at - offset + len(word)] == word:
                return True
            at = data.find(letter, at + 1)
    return False


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes | memoryview, memoryview | None]:
    if header_length is None:
        return body, None
    if not header_length.isdigit() or not 0 < int(header_length) <= len(body):
        text = header_length.decode("latin-1")
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {text!r}, expected at most the body's {len(body)} bytes."
        )
    view = memoryview(body)
    return view[: int(header_length)], view[int(header_length) :]


def _decode_input(
    entry: object, rest: memoryview | None, at: int, literals: bool, limits: Limits
) -> tuple[Tensor, int]:
    if not isinstance(entry, dict):
        raise InvalidRequestError(f"An input is a JSON {type(entry).__name__}, expected an object.")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"An input has name {name!r}, expected a non-empty string.")
    if "shape" not in entry:
        raise InvalidRequestError(f"Input {name!r} has no 'shape'.")
    shape = check_shape(name, entry["shape"], limits)
    kind = datatype(entry.get("datatype"), f"Input {name!r}")
    size = None
    if "parameters" in entry:
        size = check_parameters(entry["parameters"], f"input {name!r}").get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise InvalidRequestError(f"Input {name!r} has no 'data'.")
        return Tensor(name, kind.name, from_json(name, kind, shape, entry["data"], literals=literals)), at
    if "data" in entry:
        raise InvalidRequestError(f"Input {name!r} has both 'data' and 'binary_data_size'.")
    if rest is None:
        raise InvalidRequestError(
            f"Input {name!r} is binary, but the header Inference-Header-Content-Length is missing."
        )
    if type(size) is not int or not 0 <= size <= len(rest) - at:
        raise InvalidRequestError(
            f"Input {name!r} has binary_data_size {size!r}, but {len(rest) - at} bytes are left in the body."
        )
    return Tensor(name, kind.name, from_bytes(name, kind, shape, rest[at : at + size])), at + size


def _decode_outputs(
    entries: object, default: object
) -> tuple[tuple[str, ...] | None, ReplyForm, dict[str, int]]:
    if not isinstance(default, bool):
        raise InvalidRequestError(f"Parameter 'binary_data_output' is {default!r}, expected a boolean.")
    if entries is None:
        return None, ReplyForm(default), {}
    if not isinstance(entries, list):
        raise InvalidRequestError(f"'outputs' is a JSON {type(entries).__name__}, expected a list.")
    names, per_output, classification = [], {}, {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise InvalidRequestError("A requested output has no name.")
        names.append(name)
        parameters = check_parameters(entry.get("parameters", {}), f"output {name!r}")
        binary = parameters.get("binary_data")
        if binary is not None:
            if not isinstance(binary, bool):
                raise InvalidRequestError(
                    f"binary_data of output {name!r} is {binary!r}, expected a boolean."
                )
            per_output[name] = binary
        if CLASSIFICATION in parameters:
            classification[name] = check_count(parameters[CLASSIFICATION], name)
    return tuple(names) or None, ReplyForm(default, per_output), classification
