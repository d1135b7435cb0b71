"""The coded values of one tensor: written from, and read back into, an array (SPEC.md section 3.5).

Reading holds the tensor itself, its gap symbols or mask, and chunks; never a second dense copy.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.alphabet import Alphabet
from clearweight.artifact.bit_field import field_bytes, field_width
from clearweight.artifact.bit_pattern import bit_pattern
from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.errors import CodebookError, PositionError, SurplusBytesError
from clearweight.artifact.gap import gap_positions, gap_symbols
from clearweight.artifact.layout import Content
from clearweight.artifact.range_block import (
    best_split,
    decode_mask,
    decode_symbols,
    encode_mask,
    encode_symbols,
)
from clearweight.artifact.record import Form, Support, TensorRecord, Values
from clearweight.artifact.symbol_block import decode_fields, decode_huffman, encode_fields, encode_huffman
from clearweight.artifact.walk import flat_positions, row_length, walked

_CHUNK = 1 << 18  # values widened, looked up or scattered at a time

_GAPS = (Support.GAPS, Support.GAPS_HUFFMAN)


def encode_payload(content: Content, form: Form) -> list[bytes]:
    """Write a tensor in a form; returns the parts of the payload."""
    if content.size == 0:
        return []
    if form.support == Support.DENSE:
        return _encode_values(content, form, None)
    mask = walked(content.mask, form.walk)
    if form.support == Support.MASK_RANGE:
        places, buckets = encode_mask(mask, row_length(content.tensor.values.shape, form.walk))
        return places + _encode_values(content, form, mask, buckets)
    return _encode_positions(mask, form) + _encode_values(content, form, mask)


def _encode_positions(mask: NDArray[np.bool_], form: Form) -> list[bytes]:
    if form.support in _GAPS:
        symbols = gap_symbols(mask, form.gap_width)
        fillers = varint_bytes(int(np.count_nonzero(symbols == 0)))
        if form.support == Support.GAPS:
            return [fillers, *encode_fields(symbols, form.gap_width)]
        return [fillers, *encode_huffman(symbols, 1 << form.gap_width)]
    packed = np.packbits(mask, bitorder="little")
    return [packed.tobytes()] if form.support == Support.MASK else encode_huffman(packed, 256)


def _encode_values(
    content: Content,
    form: Form,
    mask: NDArray[np.bool_] | None,
    buckets: NDArray[np.uint8] | None = None,
) -> list[bytes]:
    if form.values == Values.RAW or content.alphabet is None:
        values = (
            content.tensor.values.reshape(-1)
            if mask is None
            else walked(content.tensor.values, form.walk)[mask]
        )
        little = form.item.newbyteorder("<")
        return [values[at : at + _CHUNK].astype(little).tobytes() for at in range(0, values.size, _CHUNK)]
    alphabet: Alphabet = content.alphabet if mask is None else content.alphabet.without_zero()
    symbols = content.alphabet.symbols
    stored = symbols.reshape(-1) if mask is None else walked(symbols, form.walk)[mask]
    entries = alphabet.entries.size
    book = bytes([entries - 1]) + alphabet.entries.astype(form.item.newbyteorder("<")).tobytes()
    if form.values == Values.CODEBOOK:
        return [book, *encode_fields(stored, field_width(entries - 1), alphabet.rename)]
    if form.values == Values.CODEBOOK_RANGE:
        return [book, *_smaller_split(alphabet.rename[stored], entries, buckets)]
    return [book, *encode_huffman(stored, entries, alphabet.rename)]


def _smaller_split(
    symbols: NDArray[np.uint8], entries: int, buckets: NDArray[np.uint8] | None
) -> list[bytes]:
    whole = encode_symbols(symbols, entries)
    if buckets is None:
        return whole
    split = encode_symbols(symbols, entries, buckets, best_split(buckets))
    return min(whole, split, key=lambda parts: sum(map(len, parts)))


def decode_payload(cursor: ByteCursor, record: TensorRecord) -> NDArray[Any]:
    """Read a tensor and demand that its payload ends where it should.

    Raises
    ------
    ContainerError
        The class names what is wrong.
    """
    flat = np.zeros(record.size, dtype=record.dtype)
    if record.size:
        if record.form.support == Support.DENSE:
            _fill_dense(cursor, record, flat)
        else:
            _scatter(cursor, record, flat)
    if cursor.remaining:
        raise SurplusBytesError(
            f"{cursor.what} has {cursor.remaining} bytes behind its last value; expected none."
        )
    return flat.reshape(record.shape)


def _fill_dense(cursor: ByteCursor, record: TensorRecord, flat: NDArray[Any]) -> None:
    at = nonzero = 0
    for values in _stored_values(cursor, record, record.size):
        nonzero += int(np.count_nonzero(bit_pattern(values)))
        flat[at : at + values.size] = values
        at += values.size
    if nonzero != record.nonzero:
        raise PositionError(
            f"{cursor.what} holds {nonzero} values other than zero, its record states {record.nonzero}."
        )


def _scatter(cursor: ByteCursor, record: TensorRecord, flat: NDArray[Any]) -> None:
    buckets = None
    if record.form.support == Support.MASK_RANGE:
        mask, buckets = decode_mask(cursor, record.size, row_length(record.shape, record.form.walk))
        places = _set_places(mask, record, cursor.what)
    else:
        places = _positions(cursor, record)
    place, done = next(places, np.zeros(0, dtype=np.int64)), 0
    for stored in _stored_values(cursor, record, record.nonzero, buckets):
        values = stored
        if not bit_pattern(values).all():
            raise CodebookError(
                f"{cursor.what} stores a zero among its values; zeros are not stored in this layout."
            )
        while values.size:
            step = min(values.size, place.size - done)
            flat[flat_positions(place[done : done + step], record.shape, record.form.walk)] = values[:step]
            values, done = values[step:], done + step
            if done == place.size and values.size:
                place, done = next(places), 0


def _set_places(mask: NDArray[np.bool_], record: TensorRecord, what: str) -> Iterator[NDArray[np.int64]]:
    found = int(np.count_nonzero(mask))
    if found != record.nonzero:
        raise PositionError(f"{what} places {found} values, its record states {record.nonzero}.")
    return (np.flatnonzero(mask[at : at + _CHUNK]) + at for at in range(0, mask.size, _CHUNK))


def _positions(cursor: ByteCursor, record: TensorRecord) -> Iterator[NDArray[np.int64]]:
    # Read whole before the first value, because the values stand behind; one byte per entry or one bit
    # per element.
    form = record.form
    if form.support in _GAPS:
        fillers = cursor.varint()
        if fillers > record.size:
            raise PositionError(f"{cursor.what} states {fillers} gap fillers for {record.size} elements.")
        symbols = _symbols(
            cursor, form.support == Support.GAPS_HUFFMAN, record.nonzero + fillers, form.gap_width
        )
        found = int(np.count_nonzero(symbols))
        if found != record.nonzero:
            raise PositionError(f"{cursor.what} places {found} values, its record states {record.nonzero}.")
        return gap_positions(symbols, form.gap_width, record.size, cursor.what)
    packed = _symbols(cursor, form.support == Support.MASK_HUFFMAN, field_bytes(record.size, 1), 8)
    if record.size % 8 and packed[-1] >> (record.size % 8):
        raise SurplusBytesError(f"{cursor.what} has a padding bit set behind its mask; expected zero.")
    starts = range(0, packed.size, _CHUNK // 8)
    found = sum(int(np.unpackbits(packed[at : at + _CHUNK // 8]).sum()) for at in starts)
    if found != record.nonzero:
        raise PositionError(f"{cursor.what} places {found} values, its record states {record.nonzero}.")
    return (
        np.flatnonzero(np.unpackbits(packed[at : at + _CHUNK // 8], bitorder="little")) + 8 * at
        for at in starts
    )


def _symbols(cursor: ByteCursor, huffman: bool, count: int, width: int) -> NDArray[np.uint8]:
    whole = np.empty(count, dtype=np.uint8)
    at = 0
    for chunk in (
        decode_huffman(cursor, count, 1 << width) if huffman else decode_fields(cursor, count, width)
    ):
        whole[at : at + chunk.size] = chunk
        at += chunk.size
    return whole


def _stored_values(
    cursor: ByteCursor, record: TensorRecord, count: int, buckets: NDArray[np.uint8] | None = None
) -> Iterator[NDArray[Any]]:
    form = record.form
    little = form.item.newbyteorder("<")
    if form.values == Values.RAW:
        for at in range(0, count, _CHUNK):
            size = min(_CHUNK, count - at)
            yield np.frombuffer(cursor.take(size * little.itemsize), dtype=little).astype(record.dtype)
        return
    entries = cursor.byte() + 1
    book = np.frombuffer(cursor.take(entries * little.itemsize), dtype=little).astype(record.dtype)
    if np.unique(bit_pattern(book)).size != entries:
        raise CodebookError(f"{cursor.what} has a codebook with a repeated entry.")
    for symbols in _value_symbols(cursor, form.values, count, entries, buckets):
        for at in range(0, symbols.size, _CHUNK):
            part = symbols[at : at + _CHUNK]
            if form.values != Values.CODEBOOK_HUFFMAN and int(part.max()) >= entries:
                raise CodebookError(
                    f"{cursor.what} has index {int(part.max())}, its codebook holds {entries}."
                )
            yield book[part]


def _value_symbols(
    cursor: ByteCursor, values: Values, count: int, entries: int, buckets: NDArray[np.uint8] | None
) -> Iterator[NDArray[np.uint8]]:
    if values == Values.CODEBOOK_HUFFMAN:
        return decode_huffman(cursor, count, entries)
    if values == Values.CODEBOOK_RANGE:
        return iter([decode_symbols(cursor, count, entries, buckets)])
    return decode_fields(cursor, count, field_width(entries - 1))
