"""Code lengths in about one bit per symbol (SPEC.md section 2.4).

Symbols are ordered so that neighbours have nearly equal lengths (codebooks by falling frequency, gaps
by size), so each length is stored as its difference from the one before, and a tail of unused symbols
costs seven bits.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import CodeTableError, SurplusBytesError, TruncatedError
from clearweight.artifact.huffman import MAX_LENGTH, MAX_SYMBOLS, check_lengths

REST_UNUSED = 15  # an explicit length that is none: no further symbol is used
MAX_TABLE_BYTES = (MAX_SYMBOLS * 7 + 7) // 8


def code_table_bytes(lengths: NDArray[np.uint8]) -> bytes:
    """Write all lengths but the first, whose place is the block's head byte.

    ``0`` same as before, ``10`` one more, ``110`` one less, ``111`` and four bits: that length, or 15 for
    "all remaining are unused". Bits are written low bit first.

    Examples
    --------
    >>> code_table_bytes(np.array([1, 2, 2, 0, 0], dtype=np.uint8)).hex()
    'f903'
    """
    stored = lengths.tolist()
    last = max(symbol for symbol, length in enumerate(stored) if length)
    bits: list[int] = []
    for before, length in pairwise(stored[: last + 1]):
        bits += _step_bits(before, length)
    if last + 1 < len(stored):
        bits += [1, 1, 1, 1, 1, 1, 1]
    return np.packbits(np.array(bits, dtype=np.uint8), bitorder="little").tobytes()


def _step_bits(before: int, length: int) -> list[int]:
    if length == before:
        return [0]
    if length == before + 1:
        return [1, 0]
    if length == before - 1:
        return [1, 1, 0]
    return [1, 1, 1, *((length >> place) & 1 for place in range(4))]


def read_code_table(data: bytes, first: int, alphabet: int, what: str) -> tuple[NDArray[np.uint8], int]:
    """Read the lengths of ``alphabet`` symbols.

    Parameters
    ----------
    data : bytes that begin with the table; at most ``MAX_TABLE_BYTES`` are looked at
    first : int
        Length of symbol 0.

    Returns
    -------
    lengths : uint8, shape (alphabet,)
    used : int
        Bytes the table took.

    Raises
    ------
    CodeTableError
        Lengths outside 0 to 12, or no complete prefix code.
    TruncatedError
        The table does not end inside ``data``.
    SurplusBytesError
        A padding bit is set.
    """
    bits = np.unpackbits(np.frombuffer(data[:MAX_TABLE_BYTES], dtype=np.uint8), bitorder="little").tolist()
    lengths = [first]
    at = 0

    def bit() -> int:
        nonlocal at
        if at == len(bits):
            raise TruncatedError(
                f"{what} ends inside its code table after {len(lengths)} of {alphabet} lengths."
            )
        at += 1
        return int(bits[at - 1])

    while len(lengths) < alphabet:
        if not bit():
            lengths.append(lengths[-1])
        elif not bit():
            lengths.append(lengths[-1] + 1)
        elif not bit():
            lengths.append(lengths[-1] - 1)
        else:
            length = bit() | bit() << 1 | bit() << 2 | bit() << 3
            lengths += [0] * (alphabet - len(lengths)) if length == REST_UNUSED else [length]
        if not 0 <= lengths[-1] <= MAX_LENGTH:
            raise CodeTableError(f"{what} has a code of {lengths[-1]} bits, expected 0 to {MAX_LENGTH}.")
    used = (at + 7) // 8
    if any(bits[at : 8 * used]):
        raise SurplusBytesError(f"{what} has a padding bit set behind its code table; expected zero.")
    table = np.array(lengths, dtype=np.uint8)
    check_lengths(table, what)
    return table, used
