"""One segment of Huffman code, cut into interleaved streams that numpy decodes side by side.

Symbol i belongs to stream i mod K and is that stream's symbol i div K. A decoder keeps K positions and
advances all of them by one symbol per step with a handful of array operations, so the interpreter's
cost is paid once per K symbols and the output appears in order (SPEC.md section 2.5). Streams begin at
any bit; the index holds their lengths as small deviations.
"""

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_field import field_bytes, field_width, pack_fields, unpack_fields
from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.errors import CodeStreamError, SurplusBytesError
from clearweight.artifact.huffman import DecodeTable

SEGMENT = 1 << 22  # symbols; bounds the memory of coding and decoding
WINDOW_BITS = 49  # usable bits of a 64-bit load at a 16-bit boundary, wherever the stream stands
MAX_INDEX_WIDTH = 26


def stream_count(symbols: int, run_exponent: int) -> int:
    """Count the streams of a segment: one per ``2 ** run_exponent`` symbols, at least one."""
    return max(1, -(-symbols >> run_exponent))


def encode_segment(
    symbols: NDArray[np.uint8], lengths: NDArray[np.uint8], words: NDArray[np.uint16], run_exponent: int
) -> bytes:
    """Code one segment: stream index, then the streams one behind the other.

    Parameters
    ----------
    symbols : uint8, shape (n,), 1 <= n <= SEGMENT
    lengths, words : per symbol of the alphabet
        Code lengths and code words, first bit lowest.
    run_exponent : int
        Each stream holds at most ``2 ** run_exponent`` symbols.
    """
    streams = stream_count(symbols.size, run_exponent)
    ordered = _by_stream(symbols, streams)
    bits = lengths[ordered]
    ends = np.cumsum(bits, dtype=np.int64)
    last = np.cumsum(_stream_sizes(symbols.size, streams)) - 1
    sizes = np.diff(ends[last], prepend=0)
    return _index_bytes(sizes[:-1]) + _pack_words(words[ordered], ends - bits, int(ends[-1]))


def _by_stream(symbols: NDArray[np.uint8], streams: int) -> NDArray[np.uint8]:
    whole, extra = divmod(symbols.size, streams)
    ordered = np.empty(symbols.size, dtype=np.uint8)
    split = extra * (whole + 1)  # the first `extra` streams hold one symbol more
    rows = symbols[: whole * streams].reshape(whole, streams)
    first = ordered[:split].reshape(extra, whole + 1)
    first[:, :whole] = rows[:, :extra].T
    first[:, whole] = symbols[whole * streams :]
    ordered[split:].reshape(streams - extra, whole)[:] = rows[:, extra:].T
    return ordered


def _stream_sizes(symbols: int, streams: int) -> NDArray[np.int64]:
    whole, extra = divmod(symbols, streams)
    sizes = np.full(streams, whole, dtype=np.int64)
    sizes[:extra] += 1
    return sizes


def _index_bytes(sizes: NDArray[np.int64]) -> bytes:
    if sizes.size == 0:
        return b""
    least = int(sizes.min())
    width = field_width(int(sizes.max()) - least)
    return varint_bytes(least) + bytes([width]) + pack_fields(sizes - least, width)


def _pack_words(words: NDArray[np.uint16], starts: NDArray[np.int64], total: int) -> bytes:
    # Words of one 32-bit cell do not overlap, so their bitwise union is their sum; only the last one of
    # a cell can reach into the next.
    cell = starts >> 5
    shifted = words.astype(np.uint64) << (starts & 31).astype(np.uint64)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    union = np.add.reduceat(shifted, first)
    cells = np.zeros((total >> 5) + 2, dtype=np.uint64)
    place = cell[first]
    cells[place] += union & np.uint64(0xFFFFFFFF)
    cells[place + 1] += union >> np.uint64(32)
    return cells.astype("<u4").tobytes()[: (total + 7) // 8]


def decode_segment(
    cursor: ByteCursor, count: int, table: DecodeTable, run_exponent: int
) -> NDArray[np.uint8]:
    """Decode one segment of ``count`` symbols and move the cursor behind it.

    Memory is bounded by the segment: nothing is allocated from a number in the file.

    Raises
    ------
    CodeStreamError
        A stream does not end where the next begins, or the index is impossible.
    TruncatedError
        The code reaches beyond the part.
    SurplusBytesError
        A padding bit is set.
    """
    streams = stream_count(count, run_exponent)
    starts = _read_index(cursor, count, streams, table.bits)
    longest = int(starts[-1]) + (count // streams + 1) * table.bits
    data = cursor.peek((longest + 7) // 8)
    symbols, ends = _decode_streams(data, starts, count, table)
    total = int(ends[-1])
    if not np.array_equal(ends[:-1], starts[1:]):
        stream = int(np.flatnonzero(ends[:-1] != starts[1:])[0])
        raise CodeStreamError(
            f"{cursor.what}: stream {stream} ends at bit {int(ends[stream])}, "
            f"its index says {int(starts[stream + 1])}."
        )
    used = (total + 7) // 8
    cursor.skip(used)  # raises when the code ran past the part
    if total % 8 and data[used - 1] >> (total % 8):
        raise SurplusBytesError(f"{cursor.what} has a padding bit set behind its code; expected zero.")
    return symbols


def _read_index(cursor: ByteCursor, count: int, streams: int, bits: int) -> NDArray[np.int64]:
    starts = np.zeros(streams, dtype=np.int64)
    if streams == 1:
        return starts
    least, width = cursor.varint(), cursor.byte()
    if width > MAX_INDEX_WIDTH:
        raise CodeStreamError(
            f"{cursor.what} has an index of {width} bits, expected at most {MAX_INDEX_WIDTH}."
        )
    deviations = unpack_fields(
        cursor.take(field_bytes(streams - 1, width)), streams - 1, width, f"{cursor.what}, stream index"
    )
    if least + int(deviations.max()) > (count // streams + 1) * bits:
        raise CodeStreamError(f"{cursor.what} has a stream longer than its symbols can be.")
    starts[1:] = np.cumsum(deviations.astype(np.int64) + least)
    return starts


def _decode_streams(
    data: bytes, starts: NDArray[np.int64], count: int, table: DecodeTable
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    streams = starts.size
    windows = _windows(data)
    symbols = np.empty(count, dtype=np.uint8)
    position = starts.copy()
    window, entry, taken = (np.empty(streams, dtype=np.int64) for _ in range(3))
    mask = (1 << table.bits) - 1
    per_window = WINDOW_BITS // table.bits
    whole, extra = divmod(count, streams)
    rows = symbols[: whole * streams].reshape(whole, streams)
    for start in range(0, whole, per_window):
        _load(windows, position, window, entry)
        for row in rows[start : start + per_window]:
            np.bitwise_and(window, mask, out=entry)
            table.symbols.take(entry, out=row, mode="clip")
            table.lengths.take(entry, out=taken, mode="clip")
            np.right_shift(window, taken, out=window)
            np.add(position, taken, out=position)
    if extra:
        _load(windows, position, window, entry)
        np.bitwise_and(window, mask, out=entry)
        table.symbols.take(entry[:extra], out=symbols[whole * streams :], mode="clip")
        position[:extra] += table.lengths[entry[:extra]]
    return symbols, position


def _windows(data: bytes) -> NDArray[np.int64]:
    # The 64 bits that begin at every 16-bit boundary; zeros behind the end, where every take is clipped.
    padded = data + bytes(16)
    view: NDArray[np.int64] = np.ndarray((len(data) // 2 + 2,), "<i8", buffer=padded, strides=(2,))
    return view.astype(np.int64)


def _load(
    windows: NDArray[np.int64],
    position: NDArray[np.int64],
    window: NDArray[np.int64],
    place: NDArray[np.int64],
) -> None:
    np.right_shift(position, 4, out=place)
    windows.take(place, out=window, mode="clip")
    np.bitwise_and(position, 15, out=place)
    # An arithmetic shift fills with the sign, above the 49 bits that are used.
    np.right_shift(window, place, out=window)
