"""Arrays as the protocol's raw tensors and back."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.client.errors import InvalidRequestError

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(values: NDArray[Any]) -> str:
    """Return the protocol's name of an array's type.

    Raises
    ------
    InvalidRequestError
        It has none.
    """
    name = _NAMES.get(values.dtype.newbyteorder("<"))
    if name is None:
        raise InvalidRequestError(
            f"Arrays of type {values.dtype} cannot be sent. Types: {', '.join(DTYPES)}."
        )
    return name


def to_raw(values: NDArray[Any]) -> bytes:
    """Return the little-endian, row-major bytes of an array; ``bytes`` elements behind their length."""
    if values.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in values.ravel())
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def from_raw(datatype: str, shape: list[int], raw: bytes | memoryview) -> NDArray[Any]:
    """Return the array that raw bytes hold."""
    dtype = DTYPES[datatype]
    if dtype.kind != "O":
        return np.frombuffer(raw, dtype).reshape(shape)
    view, items, at = memoryview(raw), [], 0
    while at < len(view):
        (length,) = struct.unpack_from("<I", view, at)
        items.append(bytes(view[at + 4 : at + 4 + length]))
        at += 4 + length
    values = np.empty(len(items), dtype=object)
    values[:] = items
    return values.reshape(shape)
