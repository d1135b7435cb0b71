"""Unsigned integers of one fixed width, packed low bit first without gaps (SPEC.md section 2.2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import SurplusBytesError

_CHUNK = 1 << 19  # numbers handled at a time; a multiple of 8, so that chunks end on whole bytes


def field_width(largest: int) -> int:
    """Count the bits that numbers 0 to ``largest`` need; 0 when there is only zero."""
    return largest.bit_length()


def field_bytes(count: int, width: int) -> int:
    """Count the bytes of ``count`` numbers of ``width`` bits."""
    return (count * width + 7) // 8


def pack_fields(numbers: NDArray[Any], width: int) -> bytes:
    """Pack numbers below ``2 ** width``.

    Examples
    --------
    >>> pack_fields(np.array([1, 2, 3], dtype=np.uint8), 3).hex()
    'd100'
    """
    size = 1 if width <= 8 else 4
    parts = []
    for start in range(0, numbers.size, _CHUNK):
        chunk = np.ascontiguousarray(numbers[start : start + _CHUNK], dtype=f"<u{size}")
        bits = np.unpackbits(chunk.view(np.uint8).reshape(-1, size), axis=1, count=width, bitorder="little")
        parts.append(np.packbits(bits.reshape(-1), bitorder="little").tobytes())
    return b"".join(parts)


def unpack_fields(data: bytes, count: int, width: int, what: str) -> NDArray[np.uint32]:
    """Unpack ``count`` numbers; the bits behind the last one must be zero.

    Parameters
    ----------
    data : bytes, exactly ``field_bytes(count, width)``

    Raises
    ------
    SurplusBytesError
        A padding bit is set.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if bits[count * width :].any():
        raise SurplusBytesError(f"{what} has a padding bit set behind its last number; expected zero.")
    if width == 0:
        return np.zeros(count, dtype=np.uint32)
    columns = np.packbits(bits[: count * width].reshape(count, width), axis=1, bitorder="little")
    numbers = np.zeros((count, 4), dtype=np.uint8)
    numbers[:, : columns.shape[1]] = columns
    return numbers.reshape(-1).view("<u4").astype(np.uint32)
