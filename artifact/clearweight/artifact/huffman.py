"""Canonical Huffman codes of limited length (SPEC.md section 2.3).

Only the code lengths are stored; both sides derive the same code words from them. The limit keeps the
decoder to one table lookup per symbol and is enforced by the package-merge algorithm, which finds the
best code under a limit; trimming lengths by hand would break the prefix property.

References
----------
Huffman, A Method for the Construction of Minimum-Redundancy Codes, Proc. IRE 40, 1952.
Larmore and Hirschberg, A fast algorithm for optimal length-limited Huffman codes, J. ACM 37, 1990.
Schwartz and Kallick, Generating a canonical prefix encoding, CACM 7, 1964.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import CodeTableError

MAX_LENGTH = 12
MAX_SYMBOLS = 256


def code_lengths(counts: NDArray[Any], limit: int = MAX_LENGTH) -> NDArray[np.uint8]:
    """Find the code lengths of least total size with no length above ``limit``.

    Among symbols of equal count the lower index gets the shorter code, so equal histograms give equal
    bytes.

    Parameters
    ----------
    counts : non-negative integers, shape (alphabet,)
        At least two of them positive, at most ``2 ** limit``.

    Returns
    -------
    uint8, same shape; 0 where the count is 0

    Examples
    --------
    >>> code_lengths(np.array([5, 1, 1, 0])).tolist()
    [1, 2, 2, 0]

    References
    ----------
    Larmore and Hirschberg 1990, section 3 (packages of coins of widths 2^-1 ... 2^-limit).
    """
    used = np.flatnonzero(counts)
    if not 2 <= used.size <= 1 << limit:
        raise CodeTableError(
            f"A Huffman code of {limit} bits needs 2 to {1 << limit} symbols, found {used.size}."
        )
    by_count = used[np.argsort(-counts[used].astype(np.int64), kind="stable")][::-1]  # rarest first
    coins = [
        (int(counts[symbol]), np.eye(1, by_count.size, place, dtype=np.int64)[0])
        for place, symbol in enumerate(by_count)
    ]
    packages = coins
    for _ in range(limit - 1):
        pairs = [
            (first[0] + second[0], first[1] + second[1])
            for first, second in zip(packages[0::2], packages[1::2], strict=False)
        ]
        packages = sorted(coins + pairs, key=lambda package: package[0])  # stable: coins before packages
    depth = np.sum([package[1] for package in packages[: 2 * by_count.size - 2]], axis=0)
    lengths = np.zeros(counts.size, dtype=np.uint8)
    lengths[by_count] = np.sort(depth)[::-1]  # rarest gets the longest
    return lengths


def check_lengths(lengths: NDArray[np.uint8], what: str) -> None:
    """Refuse lengths that do not form a complete prefix code.

    Raises
    ------
    CodeTableError
        A length above the limit, fewer than two symbols, or a Kraft sum other than one.
    """
    used = lengths[lengths > 0].astype(np.int64)
    if used.size < 2:
        raise CodeTableError(f"{what} has a code table of {used.size} symbols, expected at least 2.")
    if int(used.max()) > MAX_LENGTH:
        raise CodeTableError(f"{what} has a code of {int(used.max())} bits, expected at most {MAX_LENGTH}.")
    kraft = int((1 << (MAX_LENGTH - used)).sum())
    if kraft != 1 << MAX_LENGTH:
        word = "over" if kraft > 1 << MAX_LENGTH else "under"
        raise CodeTableError(
            f"{what} has an {word}-subscribed code table: its Kraft sum is {kraft}/{1 << MAX_LENGTH}."
        )


def code_words(lengths: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Derive the canonical code words, first bit of the word in the lowest bit.

    Symbols are ordered by (length, symbol); the first word is zero, each next one is one more, shifted
    left where the length grows.

    Examples
    --------
    >>> code_words(np.array([1, 2, 2], dtype=np.uint8)).tolist()
    [0, 1, 3]
    """
    words = np.zeros(lengths.size, dtype=np.uint16)
    word = previous = 0
    for symbol in sorted(np.flatnonzero(lengths).tolist(), key=lambda symbol: (int(lengths[symbol]), symbol)):
        length = int(lengths[symbol])
        word <<= length - previous
        words[symbol] = int(f"{word:0{length}b}"[::-1], 2)
        word, previous = word + 1, length
    return words


@dataclass(frozen=True, eq=False)
class DecodeTable:
    """What the next ``bits`` bits of a stream mean: a symbol and how many bits it took."""

    bits: int
    symbols: NDArray[np.uint8]
    lengths: NDArray[np.int64]


def decode_table(lengths: NDArray[np.uint8]) -> DecodeTable:
    """Spread every code word over all table entries that begin with it."""
    bits = int(lengths.max())
    symbols = np.empty(1 << bits, dtype=np.uint8)
    used = np.empty(1 << bits, dtype=np.int64)
    words = code_words(lengths)
    for symbol in np.flatnonzero(lengths).tolist():
        every = slice(int(words[symbol]), None, 1 << int(lengths[symbol]))
        symbols[every] = symbol
        used[every] = lengths[symbol]
    return DecodeTable(bits, symbols, used)
