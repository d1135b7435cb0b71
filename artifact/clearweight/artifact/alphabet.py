"""The distinct values of a tensor and how often each occurs, where there are few enough for a codebook."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_pattern import bit_pattern
from clearweight.artifact.coded import MAX_CODEBOOK, CodedTensor

_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Alphabet:
    """Symbols of a tensor.

    Parameters
    ----------
    symbols : uint8, shape of the tensor
        As they were handed over, several may mean the same value.
    rename : uint8, shape (256,)
        Symbol to rank.
    entries : shape (k,)
        Value by rank: most frequent first, ties by bit pattern, unused ones dropped.
    counts : int64, shape (k,)
    """

    symbols: NDArray[np.uint8]
    rename: NDArray[np.uint8]
    entries: NDArray[Any]
    counts: NDArray[np.int64]

    def without_zero(self) -> "Alphabet":
        """Drop the value +0; the ranks behind it move up."""
        zero = np.flatnonzero(bit_pattern(self.entries) == 0)
        if zero.size == 0:
            return self
        rank = int(zero[0])
        rename = self.rename - (self.rename > rank).astype(np.uint8)
        return Alphabet(self.symbols, rename, np.delete(self.entries, rank), np.delete(self.counts, rank))


def alphabet_of(tensor: CodedTensor) -> Alphabet | None:
    """Find a tensor's symbols: from its code, else from its values if there are at most 256."""
    if tensor.codebook is not None and tensor.indices is not None:
        return _ranked(tensor.indices, tensor.codebook)
    patterns = _few_patterns(tensor.values)
    if patterns is None:
        return None
    flat = tensor.values.reshape(-1)
    symbols = np.empty(flat.size, dtype=np.uint8)
    for start in range(0, flat.size, _CHUNK):
        symbols[start : start + _CHUNK] = np.searchsorted(patterns, bit_pattern(flat[start : start + _CHUNK]))
    entries = patterns.view(tensor.values.dtype.newbyteorder("="))
    return _ranked(symbols.reshape(tensor.values.shape), entries)


def _few_patterns(values: NDArray[Any]) -> NDArray[Any] | None:
    flat = values.reshape(-1)
    patterns = bit_pattern(flat[:0])
    step = MAX_CODEBOOK * 4  # the first look is short: most tensors without a code end here
    start = 0
    while start < flat.size:
        patterns = np.union1d(patterns, bit_pattern(flat[start : start + step]))
        if patterns.size > MAX_CODEBOOK:
            return None
        start, step = start + step, _CHUNK
    return patterns


def _ranked(symbols: NDArray[np.uint8], entries: NDArray[Any]) -> Alphabet:
    flat = symbols.reshape(-1)
    by_symbol = np.zeros(MAX_CODEBOOK, dtype=np.int64)
    for start in range(0, flat.size, _CHUNK):
        by_symbol += np.bincount(flat[start : start + _CHUNK], minlength=MAX_CODEBOOK)
    patterns, merged = np.unique(bit_pattern(entries), return_inverse=True)
    counts = np.bincount(merged, weights=by_symbol[: entries.size], minlength=patterns.size).astype(np.int64)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    rank = np.zeros(max(patterns.size, 1), dtype=np.uint8)
    rank[order] = np.arange(order.size)
    rename = np.zeros(MAX_CODEBOOK, dtype=np.uint8)
    rename[: entries.size] = rank[merged]
    kept = patterns[order].view(entries.dtype.newbyteorder("="))
    return Alphabet(symbols, rename, kept, counts[order])
