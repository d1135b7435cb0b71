"""Few shared values for a weight, chosen so that the distortion *and* the code are short: the arithmetic.

Chou, Lookabaugh, Gray, Entropy-Constrained Vector Quantization, IEEE Trans. ASSP 1989, in one dimension, with the
weighted distortion of Gao et al., Rate Distortion for Model Compression, ICML 2019.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.compress.share_weights import initial_centroids

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
# Octaves in which the multiplier is sought, and halvings of that range.
_OCTAVES = (-60.0, 20.0)
_HALVINGS = 24


@dataclass(frozen=True, eq=False)
class Quantized:
    """One tensor's codebook (zero first) and flat indices."""

    codebook: Floats
    indices: Indices


def code_lengths(counts: NDArray[np.int64]) -> Floats:
    """Ideal code lengths in bits, ``-log2 p``; infinite for a symbol that does not occur."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(counts / counts.sum()), dtype=np.float64)


def entropy_bits(indices: Indices) -> float:
    """Bits of a stream of symbols under its own ideal code."""
    counts = np.bincount(indices.ravel())
    counts = counts[counts > 0]
    return float((counts * code_lengths(counts)).sum())


def quantize(
    weight: Floats, importance: Floats, centroids: Floats, multiplier: float, rounds: int = 50
) -> tuple[Floats, Indices]:
    """Minimise ``sum_i importance_i (w_i - c_q(i))^2 + multiplier * bits`` by alternating descent.

    Each round gives every survivor its cheapest symbol, then every symbol the weighted mean of its members and the code
    length of its frequency; none of the three can raise the sum. Entries that are zero stay zero; others may become it.

    Parameters
    ----------
    weight, importance : float64, (n,) ; importance >= 0
    centroids : (k,) where to begin
    multiplier : distortion that one bit is worth

    Returns
    -------
    codebook : (k' + 1,), zero first, only symbols that occur (and zero)
    indices : int64, (n,)
    """
    alive = np.flatnonzero(weight)
    values, worth = weight[alive], importance[alive]
    book = np.concatenate([[0.0], np.sort(centroids)])
    zeros = len(weight) - len(alive)
    own = 1 + np.searchsorted((book[2:] + book[1:-1]) / 2, values)
    for _ in range(rounds):
        counts = np.bincount(own, minlength=len(book))
        counts[0] += zeros
        used = counts > 0
        used[0] = True
        book, own = book[used], (np.cumsum(used) - 1)[own]
        weights = np.bincount(own, worth, len(book))
        sums = np.bincount(own, worth * values, len(book))
        moved = np.divide(sums, weights, out=book.copy(), where=weights > 0)
        moved[0] = 0.0
        # Zero can always be had: without members it costs what the rarest symbol does.
        lengths = code_lengths(np.maximum(counts[used], 1))
        cost = worth[:, None] * (values[:, None] - moved) ** 2 + multiplier * lengths
        now = cost.argmin(1)
        settled = np.array_equal(now, own) and np.array_equal(moved, book)
        book, own = moved, now
        if settled:
            break
    kept, packed = np.unique(np.concatenate([[0], own]), return_inverse=True)
    indices = np.zeros(len(weight), dtype=np.int64)
    indices[alive] = packed[1:]
    return book[kept], indices


def even_out(importance: Floats, share: float) -> Floats:
    """Replace a share of each value by the mean of all.

    >>> even_out(np.array([0.0, 4.0]), 0.5).tolist()
    [1.0, 3.0]
    """
    evened: Floats = (1.0 - share) * importance + share * importance.mean()
    return evened


def quantize_to_rate(
    weights: Mapping[str, Floats],
    importances: Mapping[str, Floats],
    symbols: int,
    bits_per_weight: float,
) -> tuple[dict[str, Quantized], float]:
    """Quantize tensors with the one multiplier that brings them to a mean entropy, found by bisection.

    Parameters
    ----------
    weights, importances : name -> float64, (n,)
    symbols : values per tensor to begin with, evenly spaced
    bits_per_weight : entropy to stay below, over all entries of all tensors

    Returns
    -------
    the quantized tensors, and the multiplier
    """
    size = sum(len(w) for w in weights.values())
    starts = {
        name: initial_centroids(w[w != 0], symbols, "linear") if w.any() else np.zeros(1)
        for name, w in weights.items()
    }

    def at(octave: float) -> dict[str, Quantized]:
        price = 2.0**octave
        return {
            name: Quantized(*quantize(w, importances[name], starts[name], price))
            for name, w in weights.items()
        }

    low, high = _OCTAVES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        bits = sum(entropy_bits(q.indices) for q in at(middle).values())
        low, high = (middle, high) if bits > bits_per_weight * size else (low, middle)
    return at(high), 2.0**high
