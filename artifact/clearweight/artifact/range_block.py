"""A mask, or a run of symbols below 256, in adaptive range code (SPEC.md sections 2.9 and 2.10)."""

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.activity import BUCKETS, CONTEXTS, MaskActivity
from clearweight.artifact.bit_field import field_width
from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.errors import TensorFieldError
from clearweight.artifact.range_coder import AdaptiveBits, BitDecoder, encode_bits

_MASK_LANES, _SYMBOL_LANES = 7, 6


def lane_count(count: int, fewer: int) -> int:
    """Choose how many lanes ``count`` elements take: about their number to the power of 2/3.

    Few lanes cost few bytes, many lanes cost few steps; neither side may choose, so that no file makes a reader slow.
    """
    return 1 << max(0, -(-2 * (count - 1).bit_length() // 3) - fewer)


def encode_mask(mask: NDArray[np.bool_], row: int) -> tuple[list[bytes], NDArray[np.uint8]]:
    """Code a flat mask, read as a matrix in rows of ``row`` elements.

    Returns
    -------
    parts : of the block
    buckets : uint8, one per stored element: how active its place was, which its value's code may use
    """
    lanes = lane_count(mask.size, _MASK_LANES)
    places, model = MaskActivity(mask.size, row, lanes), AdaptiveBits(CONTEXTS)
    bits, ones = [], []
    for start in range(0, mask.size, lanes):
        context = places.contexts()
        bits.append(mask[start : start + lanes])
        ones.append(model.ones(context).astype(np.uint16))
        model.learn(context, bits[-1])
        places.learn(bits[-1])
    return encode_bits(bits, ones, lanes), places.buckets()


def decode_mask(cursor: ByteCursor, size: int, row: int) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Decode a mask of ``size`` elements, and how active the place of each stored one was.

    Raises
    ------
    ContainerError
        The code is cut short or changed.
    """
    lanes = lane_count(size, _MASK_LANES)
    decoder = BitDecoder(cursor, lanes)
    places, model = MaskActivity(size, row, lanes), AdaptiveBits(CONTEXTS)
    mask = np.empty(size, dtype=bool)
    for start in range(0, size, lanes):
        context = places.contexts()
        bit = decoder.step(model.ones(context))
        mask[start : start + lanes] = bit
        model.learn(context, bit)
        places.learn(bit)
    decoder.finish()
    return mask, places.buckets()


def best_split(buckets: NDArray[np.uint8]) -> int:
    """Return the bucket from which on a place counts as busy: the middle of those that occur."""
    return int(np.median(buckets)) + 1 if buckets.size else 0


def encode_symbols(
    symbols: NDArray[np.uint8], alphabet: int, buckets: NDArray[np.uint8] | None = None, split: int = 0
) -> list[bytes]:
    """Code symbols below ``alphabet``, the highest bit of each first.

    Parameters
    ----------
    buckets : uint8, one per symbol
        Symbols in busy places, of bucket ``split`` or above, have probabilities of their own.
    split : int
        0: all places are alike.
    """
    width = field_width(alphabet - 1)
    lanes = lane_count(symbols.size, _SYMBOL_LANES)
    model = AdaptiveBits(2 << width)
    busy = _busy(symbols.size, buckets, split) << width
    bits, ones = [], []
    for start in range(0, symbols.size, lanes):
        symbol = symbols[start : start + lanes].astype(np.int64)
        for place in reversed(range(width)):
            context = busy[start : start + lanes] + (1 << width - 1 - place) + (symbol >> place + 1)
            bits.append((symbol >> place & 1).astype(bool))
            ones.append(model.ones(context).astype(np.uint16))
            model.learn(context, bits[-1])
    return [bytes([split]), *encode_bits(bits, ones, lanes)]


def decode_symbols(
    cursor: ByteCursor, count: int, alphabet: int, buckets: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Decode ``count`` symbols; whether each is below ``alphabet`` is for the caller to check.

    Raises
    ------
    TensorFieldError
        A split where there are no buckets, or behind the last.
    ContainerError
        The code is cut short or changed.
    """
    split = cursor.byte()
    if split > (0 if buckets is None else BUCKETS - 1):
        raise TensorFieldError(
            f"{cursor.what} splits its symbols at activity {split}, which it does not have."
        )
    width = field_width(alphabet - 1)
    lanes = lane_count(count, _SYMBOL_LANES)
    decoder = BitDecoder(cursor, lanes)
    model = AdaptiveBits(2 << width)
    busy = _busy(count, buckets, split) << width
    symbols = np.empty(count, dtype=np.uint8)
    for start in range(0, count, lanes):
        node = np.ones(min(lanes, count - start), dtype=np.int64)
        for _ in range(width):
            context = busy[start : start + lanes] + node
            bit = decoder.step(model.ones(context))
            model.learn(context, bit)
            node = 2 * node + bit
        symbols[start : start + lanes] = node - (1 << width)
    decoder.finish()
    return symbols


def _busy(count: int, buckets: NDArray[np.uint8] | None, split: int) -> NDArray[np.int64]:
    if buckets is None or split == 0:
        return np.zeros(count, dtype=np.int64)
    return (buckets >= split).astype(np.int64)
