"""Values compared and counted by their bits, so that -0.0 and NaN survive a round trip."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# SPEC.md section 3.3: the code of a dtype is its place in this table.
DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(code) for code in ("f2", "f4", "f8", "i1", "u1", "i4", "i8")
)
BIT_TYPES: dict[int, np.dtype[Any]] = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def bit_pattern(values: NDArray[Any]) -> NDArray[Any]:
    """View values as unsigned integers of the same width; zero means the pattern of +0."""
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return native.reshape(values.shape).view(BIT_TYPES[native.dtype.itemsize])


def narrowest_float(values: NDArray[Any]) -> np.dtype[Any]:
    """Find the narrowest float type that holds every value bit for bit.

    Parameters
    ----------
    values : array
        Integers keep their own type.

    Returns
    -------
    dtype
        ``float16`` or ``float32`` when widening restores the same bits, else the values' own.
    """
    own = values.dtype.newbyteorder("=")
    if own.kind != "f":
        return own
    for size in (2, 4):
        if size < own.itemsize and _survives(values, np.dtype(f"f{size}")):
            return np.dtype(f"f{size}")
    return own


def _survives(values: NDArray[Any], narrow: np.dtype[Any]) -> bool:
    flat = values.reshape(-1)
    for start in range(0, flat.size, 1 << 20):  # in chunks: no second copy of a large tensor
        chunk = flat[start : start + (1 << 20)]
        with np.errstate(over="ignore", invalid="ignore"):
            restored = chunk.astype(narrow).astype(chunk.dtype)
        if not np.array_equal(bit_pattern(restored), bit_pattern(chunk)):
            return False
    return True
