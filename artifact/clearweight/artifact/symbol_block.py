"""A run of symbols below 256, in fields of fixed width or in Huffman code (SPEC.md sections 2.2, 2.6)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_field import field_bytes, pack_fields, unpack_fields
from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.code_table import MAX_TABLE_BYTES, code_table_bytes, read_code_table
from clearweight.artifact.errors import CodeStreamError, CodeTableError
from clearweight.artifact.huffman import code_lengths, code_words, decode_table
from clearweight.artifact.lockstep import SEGMENT, decode_segment, encode_segment, stream_count

LEAST_RUN = 7  # the head byte stores the run exponent minus this
MOST_RUN = 12  # a longer stream would be decoded nearly alone: a way to make a reader slow
CONSTANT = 15  # a first length that is none: one symbol throughout, no code
LONG_BLOCK = SEGMENT  # from here on longer streams: the index shrinks and there are still enough of them
_FIELD_CHUNK = 1 << 19


def run_exponent(count: int) -> int:
    """Choose how many symbols a stream holds, as a power of two: few streams for few symbols."""
    return MOST_RUN if count >= LONG_BLOCK else MOST_RUN - 1


def huffman_size(counts: NDArray[Any]) -> int:
    """Predict the bytes of a Huffman block from its histogram.

    Exact but for the stream index, whose width depends on the order of the symbols; it is taken as ten
    bits a stream, the same for every candidate.
    """
    total = int(counts.sum())
    used = np.count_nonzero(counts)
    if used < 2:
        return 2 if total else 0
    lengths = code_lengths(counts)
    bits = int((counts.astype(np.int64) * lengths).sum())
    streams = stream_count(total, run_exponent(total))
    index = 0 if streams == 1 else 3 + (10 * (streams - 1) + 7) // 8
    return 1 + len(code_table_bytes(lengths)) + index + (bits + 7) // 8


def encode_huffman(
    symbols: NDArray[np.uint8], alphabet: int, rename: NDArray[np.uint8] | None = None
) -> list[bytes]:
    """Code symbols below ``alphabet``; ``rename`` maps stored symbols to block symbols on the way.

    Returns the parts of the block, to be written one behind the other.
    """
    if symbols.size == 0:
        return []
    counts = np.zeros(alphabet, dtype=np.int64)
    segments = [slice(start, start + SEGMENT) for start in range(0, symbols.size, SEGMENT)]
    for segment in segments:
        counts += np.bincount(_renamed(symbols[segment], rename), minlength=alphabet)
    exponent = run_exponent(symbols.size)
    if np.count_nonzero(counts) == 1:
        return [bytes([exponent - LEAST_RUN | CONSTANT << 4, int(np.flatnonzero(counts)[0])])]
    lengths = code_lengths(counts)
    words = code_words(lengths)
    head = bytes([exponent - LEAST_RUN | int(lengths[0]) << 4]) + code_table_bytes(lengths)
    return [head] + [
        encode_segment(_renamed(symbols[segment], rename), lengths, words, exponent) for segment in segments
    ]


def decode_huffman(cursor: ByteCursor, count: int, alphabet: int) -> Iterator[NDArray[np.uint8]]:
    """Decode ``count`` symbols in chunks of at most one segment.

    Raises
    ------
    ContainerError
        The class names what is wrong: table, stream, padding or end.
    """
    if count == 0:
        return
    head = cursor.byte()
    exponent, first = (head & 15) + LEAST_RUN, head >> 4
    sizes = [min(SEGMENT, count - start) for start in range(0, count, SEGMENT)]
    if first == CONSTANT:
        symbol = cursor.byte()
        if symbol >= alphabet:
            raise CodeTableError(f"{cursor.what} repeats symbol {symbol} of an alphabet of {alphabet}.")
        for size in sizes:
            yield np.full(size, symbol, dtype=np.uint8)
        return
    if exponent > MOST_RUN:
        raise CodeStreamError(
            f"{cursor.what} has streams of 2^{exponent} symbols, expected at most 2^{MOST_RUN}."
        )
    lengths, used = read_code_table(cursor.peek(MAX_TABLE_BYTES), first, alphabet, cursor.what)
    cursor.skip(used)
    table = decode_table(lengths)
    for size in sizes:
        yield decode_segment(cursor, size, table, exponent)


def encode_fields(
    symbols: NDArray[np.uint8], width: int, rename: NDArray[np.uint8] | None = None
) -> list[bytes]:
    """Pack symbols below ``2 ** width``; returns the parts of the block."""
    return [
        pack_fields(_renamed(symbols[start : start + _FIELD_CHUNK], rename), width)
        for start in range(0, symbols.size, _FIELD_CHUNK)
    ]


def decode_fields(cursor: ByteCursor, count: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """Unpack ``count`` symbols in chunks.

    Raises
    ------
    TruncatedError, SurplusBytesError
        The block ends too early, or a padding bit is set.
    """
    for start in range(0, count, _FIELD_CHUNK):
        size = min(_FIELD_CHUNK, count - start)
        yield unpack_fields(cursor.take(field_bytes(size, width)), size, width, cursor.what).astype(np.uint8)


def sized(number: int) -> int:
    """Count the bytes of a number in its shortest form."""
    return len(varint_bytes(number))


def _renamed(symbols: NDArray[np.uint8], rename: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    return symbols if rename is None else rename[symbols]
