"""Positions of stored values as the number of zeros before each (SPEC.md section 3.5).

A gap symbol of width w is 0, "2^w - 1 zeros and no value", or g + 1, "g zeros and then a value"; a
long gap is fillers and a rest. Positions follow a walk through the tensor, see ``walk.py``.

References
----------
Han, Mao and Dally, Deep Compression, ICLR 2016, section 2 (relative index with padding zeros; theirs
stores a zero value per filler, ours none).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import PositionError

WIDTHS = range(3, 9)
_CHUNK = 1 << 19  # entries or positions handled at a time


def gaps_of(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Count the zeros before each set element of a flat mask, in chunks."""
    previous = -1
    for start in range(0, mask.size, _CHUNK):
        positions = np.flatnonzero(mask[start : start + _CHUNK]) + start
        if positions.size:
            yield np.diff(positions, prepend=previous) - 1
            previous = int(positions[-1])


def gap_histogram(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count how often each gap occurs: gaps, and their counts."""
    small = np.zeros(1024, dtype=np.int64)
    large = []
    for gaps in gaps_of(mask):
        small += np.bincount(gaps[gaps < small.size], minlength=small.size)
        large.append(gaps[gaps >= small.size])
    values, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *large]), return_counts=True)
    used = np.flatnonzero(small)
    return np.concatenate([used, values]), np.concatenate([small[used], counts])


def symbol_histogram(gaps: NDArray[np.int64], counts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Count the symbols that a histogram of gaps turns into; entry 0 counts the fillers."""
    stride = (1 << width) - 1
    histogram = np.bincount(gaps % stride + 1, weights=counts, minlength=stride + 1).astype(np.int64)
    histogram[0] = int((gaps // stride * counts).sum())
    return histogram


def gap_symbols(mask: NDArray[np.bool_], width: int) -> NDArray[np.uint8]:
    """Turn a flat mask into gap symbols.

    Examples
    --------
    >>> gap_symbols(np.array([0, 0, 1] + 7 * [0] + [1], dtype=bool), 3).tolist()
    [3, 0, 1]
    """
    stride = (1 << width) - 1
    parts = [np.zeros(0, dtype=np.uint8)]
    for gaps in gaps_of(mask):
        ends = np.cumsum(gaps // stride + 1)
        symbols = np.zeros(int(ends[-1]), dtype=np.uint8)
        symbols[ends - 1] = gaps % stride + 1
        parts.append(symbols)
    return np.concatenate(parts)


def gap_positions(
    symbols: NDArray[np.uint8], width: int, size: int, what: str
) -> Iterator[NDArray[np.int64]]:
    """Turn gap symbols back into positions, in chunks.

    Raises
    ------
    PositionError
        A position at or behind ``size``, or a filler with no value after it.
    """
    stride = (1 << width) - 1
    if symbols.size and symbols[-1] == 0:
        raise PositionError(f"{what} ends with a gap filler; expected a value after it.")
    behind = 0
    for start in range(0, symbols.size, _CHUNK):
        chunk = symbols[start : start + _CHUNK]
        filler = chunk == 0
        ends = np.cumsum(np.where(filler, stride, chunk), dtype=np.int64) + behind
        behind = int(ends[-1])
        if behind > size:
            raise PositionError(f"{what} puts a value at position {behind - 1}, but the tensor holds {size}.")
        yield ends[~filler] - 1
