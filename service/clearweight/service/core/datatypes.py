"""The Open Inference Protocol's datatypes, and how their elements are written as JSON and as raw bytes.

Source: Open Inference Protocol, "Tensor Data Types"; binary tensor data extension, "Binary tensor data".
Raw form is little-endian, row-major, without padding; ``BYTES`` elements carry a uint32 length prefix.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.core.errors import InvalidRequestError, NonFiniteOutputError


@dataclass(frozen=True)
class Datatype:
    """One row of the table: the name on the wire, its carrier in numpy, the form of its elements in JSON."""

    name: str
    dtype: np.dtype[Any]
    json: str  # "float", "integer", "boolean", "text" or "none" (binary only)

    @cached_property
    def size(self) -> int:
        """Bytes per element in raw form; 0 where elements vary in length."""
        return 0 if self.dtype.kind == "O" else self.dtype.itemsize


DATATYPES: dict[str, Datatype] = {
    row.name: row
    for row in (
        Datatype("BOOL", np.dtype("?"), "boolean"),
        Datatype("UINT8", np.dtype("<u1"), "integer"),
        Datatype("UINT16", np.dtype("<u2"), "integer"),
        Datatype("UINT32", np.dtype("<u4"), "integer"),
        Datatype("UINT64", np.dtype("<u8"), "integer"),
        Datatype("INT8", np.dtype("<i1"), "integer"),
        Datatype("INT16", np.dtype("<i2"), "integer"),
        Datatype("INT32", np.dtype("<i4"), "integer"),
        Datatype("INT64", np.dtype("<i8"), "integer"),
        Datatype("FP16", np.dtype("<f2"), "none"),
        Datatype("BF16", np.dtype("<u2"), "none"),
        Datatype("FP32", np.dtype("<f4"), "float"),
        Datatype("FP64", np.dtype("<f8"), "float"),
        Datatype("BYTES", np.dtype("O"), "text"),
    )
}

_OF_DTYPE = {row.dtype: row.name for row in DATATYPES.values() if row.name != "BF16"}


def datatype(name: object, where: str) -> Datatype:
    """Look a wire name up.

    Raises
    ------
    InvalidRequestError
        ``name`` is not a datatype of the protocol.
    """
    found = DATATYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidRequestError(f"{where} has datatype {name!r}, expected one of {', '.join(DATATYPES)}.")
    return found


def datatype_of(values: NDArray[Any]) -> str:
    """Return the wire name of an array's type.

    Raises
    ------
    InvalidRequestError
        The protocol has no such type.
    """
    name = _OF_DTYPE.get(values.dtype.newbyteorder("<"))
    if name is None:
        raise InvalidRequestError(f"Arrays of type {values.dtype} have no datatype in the protocol.")
    return name


def from_json(
    name: str, kind: Datatype, shape: Sequence[int], data: object, *, literals: bool = True
) -> NDArray[Any]:
    """Read a JSON ``data`` list, flat or nested, into an array.

    Allocates no more than ``data`` holds, whatever ``shape`` claims.

    Parameters
    ----------
    shape : positive integers, already checked
    literals : bool
        False promises that the text held no ``true`` or ``false`` anywhere, which saves looking for booleans
        among the numbers.

    Raises
    ------
    InvalidRequestError
        The nesting does not match ``shape``, an element is of another type or out of range, or the type is
        binary only.
    """
    where = f"Input {name!r}"
    if kind.json == "none":
        raise InvalidRequestError(
            f"{where} has datatype {kind.name}, which JSON cannot carry: send it as binary data."
        )
    if not isinstance(data, list):
        raise InvalidRequestError(f"{where} has data of type {type(data).__name__}, expected a list.")
    flat = _flatten(where, data, shape)
    try:
        values = _READ[kind.json](flat, kind, literals)
    except (TypeError, OverflowError):
        values = None
    if values is None:
        raise InvalidRequestError(f"{where} holds an element that is not a valid {kind.name}.")
    return values.reshape(shape)


def _flatten(where: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    count = prod(shape)
    if data and not isinstance(data[0], list):
        if len(data) != count:
            raise InvalidRequestError(
                f"{where} has {len(data)} elements, but its shape {list(shape)} needs {count}."
            )
        return data
    level: list[Any] = [data]
    for depth, size in enumerate(shape):
        for item in level:
            if not isinstance(item, list) or len(item) != size:
                found = f"{len(item)} elements" if isinstance(item, list) else f"a {type(item).__name__}"
                raise InvalidRequestError(
                    f"{where} has {found} at nesting depth {depth}, but its shape {list(shape)} needs a list of {size}."
                )
        level = list(chain.from_iterable(level))
    return level


def _read_float(flat: list[Any], kind: Datatype, literals: bool) -> NDArray[Any] | None:
    # array refuses text, null and lists, which numpy would convert or wrap.
    values = np.frombuffer(array("f" if kind.dtype.itemsize == 4 else "d", flat), dtype=kind.dtype)
    if (literals and bool in set(map(type, flat))) or not np.isfinite(values).all():
        return None
    return values


def _read_integer(flat: list[Any], kind: Datatype, literals: bool) -> NDArray[Any] | None:
    wide = "Q" if kind.dtype.kind == "u" else "q"
    values = np.frombuffer(array(wide, flat), dtype=np.uint64 if wide == "Q" else np.int64)
    if literals and bool in set(map(type, flat)):
        return None
    bounds = np.iinfo(kind.dtype)
    if int(values.min()) < bounds.min or int(values.max()) > bounds.max:
        return None
    return values.astype(kind.dtype)


def _read_boolean(flat: list[Any], kind: Datatype, literals: bool) -> NDArray[Any] | None:
    del literals
    return np.array(flat, dtype=kind.dtype) if set(map(type, flat)) == {bool} else None


def _read_text(flat: list[Any], kind: Datatype, literals: bool) -> NDArray[Any] | None:
    del kind, literals
    return _objects(text.encode() for text in flat) if set(map(type, flat)) == {str} else None


_READ = {"float": _read_float, "integer": _read_integer, "boolean": _read_boolean, "text": _read_text}


def to_json(tensor_name: str, kind: Datatype, values: NDArray[Any]) -> NDArray[Any] | list[str]:
    """Return what the JSON writer may serialise: a flat contiguous array, or a list of text.

    Raises
    ------
    NonFiniteOutputError
        A value is NaN or infinite.
    InvalidRequestError
        The type is binary only.
    """
    if kind.json == "none":
        raise InvalidRequestError(
            f"Output {tensor_name!r} has datatype {kind.name}, which JSON cannot carry: ask for binary data."
        )
    if kind.json == "text":
        return [bytes(item).decode() for item in values.ravel()]
    if kind.json == "float" and not np.isfinite(values).all():
        raise NonFiniteOutputError(
            f"Output {tensor_name!r} holds NaN or infinity, which JSON cannot carry: ask for binary data."
        )
    return np.ascontiguousarray(values).ravel()


def from_bytes(name: str, kind: Datatype, shape: Sequence[int], raw: bytes | memoryview) -> NDArray[Any]:
    """Read raw little-endian row-major bytes into an array.

    Raises
    ------
    InvalidRequestError
        The length is not shape x type, a length prefix runs past the end, or a BOOL byte is neither 0 nor 1.
    """
    where, count = f"Input {name!r}", prod(shape)
    if kind.size == 0:
        return _read_elements(where, count, raw).reshape(shape)
    if len(raw) != count * kind.size:
        raise InvalidRequestError(
            f"{where} has {len(raw)} bytes, but shape {list(shape)} of {kind.name} needs {count * kind.size}."
        )
    if kind.name == "BOOL" and np.frombuffer(raw, np.uint8).max() > 1:
        raise InvalidRequestError(f"{where} holds a BOOL byte other than 0 and 1.")
    values = np.frombuffer(raw, kind.dtype).reshape(shape)
    # A tensor may start at any byte of the body; kernels want their alignment.
    return values if values.flags.aligned else values.copy()


def to_bytes(kind: Datatype, values: NDArray[Any]) -> bytes:
    """Write an array as raw little-endian row-major bytes."""
    if kind.size == 0:
        return b"".join(struct.pack("<I", len(item)) + bytes(item) for item in values.ravel())
    return values.astype(kind.dtype, copy=False).tobytes()


def _read_elements(where: str, count: int, raw: bytes | memoryview) -> NDArray[Any]:
    view, items, at = memoryview(raw), [], 0
    while at < len(view):
        end = at + 4
        length = int.from_bytes(view[at:end], "little") if end <= len(view) else len(view)
        if end + length > len(view):
            raise InvalidRequestError(
                f"{where}: the BYTES element at byte {at} runs past the end of {len(view)} bytes."
            )
        items.append(bytes(view[end : end + length]))
        at = end + length
    if len(items) != count:
        raise InvalidRequestError(f"{where} has {len(items)} BYTES elements, but its shape needs {count}.")
    return _objects(items)


def _objects(items: Iterable[bytes]) -> NDArray[Any]:
    listed = list(items)
    values = np.empty(len(listed), dtype=object)
    values[:] = listed
    return values
