"""``multipart/form-data``: files and fields of a form as a request, so that ``curl -F input=@cat.png`` works.

A part named as the model's input is a row of its batch, in the order of the parts. Any other part without a file name
is a parameter: a JSON scalar where it reads as one, text otherwise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from clearweight.artifact import TensorSpec
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.types import InferRequest, Scalar, Tensor

TYPE = b"multipart/form-data"
_PARTS = 1024


def decode_form(
    model: str, version: str | None, specs: Sequence[TensorSpec], content_type: bytes, body: bytes
) -> InferRequest:
    """Read a form.

    Raises
    ------
    InvalidRequestError
        No form, more than 1024 parts, a part without a name, or a file under a name that is no input.
    """
    rows: dict[str, list[bytes]] = {}
    parameters: dict[str, Scalar] = {}
    for name, is_file, data in read_parts(content_type, body):
        if name in (*(spec.name for spec in specs), BASELINE):
            rows.setdefault(name, []).append(data)
        elif is_file:
            raise InvalidRequestError(
                f"The file {name!r} is no input; expected {', '.join(spec.name for spec in specs)}."
            )
        else:
            parameters[name] = _scalar(data)
    tensors = []
    for name, items in rows.items():
        values = np.empty(len(items), dtype=object)
        values[:] = items
        tensors.append(Tensor(name, "BYTES", values))
    return InferRequest(model, version, tuple(tensors), parameters=parameters)


def read_parts(content_type: bytes, body: bytes) -> list[tuple[str, bool, bytes]]:
    """Return name, whether there is a file name, and content of every part.

    Raises
    ------
    InvalidRequestError
        No form, more than 1024 parts, or a part without a name.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != TYPE or not boundary:
        raise InvalidRequestError("The content type names no boundary between the parts of the form.")
    parts: list[_Part] = []

    def part_begin() -> None:
        if len(parts) == _PARTS:
            raise InvalidRequestError(f"The form has more than {_PARTS} parts.")
        parts.append(_Part())

    def header_end() -> None:
        part = parts[-1]
        part.headers[bytes(part.field).lower()] = bytes(part.value)
        part.field.clear()
        part.value.clear()

    callbacks: Any = {  # the type is there for checkers only
        "on_part_begin": part_begin,
        "on_header_field": lambda data, start, end: parts[-1].field.extend(data[start:end]),
        "on_header_value": lambda data, start, end: parts[-1].value.extend(data[start:end]),
        "on_header_end": header_end,
        "on_part_data": lambda data, start, end: parts[-1].data.extend(data[start:end]),
        "on_part_end": lambda: setattr(parts[-1], "whole", True),
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequestError(f"The form cannot be read: {error}.") from None
    if not parts or not parts[-1].whole:
        raise InvalidRequestError("The form has no parts, or ends within one.")
    return [part.read() for part in parts]


class _Part:
    __slots__ = ("data", "field", "headers", "value", "whole")

    def __init__(self) -> None:
        self.field, self.value, self.data = bytearray(), bytearray(), bytearray()
        self.headers: dict[bytes, bytes] = {}
        self.whole = False

    def read(self) -> tuple[str, bool, bytes]:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise InvalidRequestError("A part of the form has no name.")
        return name, b"filename" in options, bytes(self.data)


def _scalar(data: bytes) -> Scalar:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("A field of the form is no UTF-8 text.") from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
