import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact import symbol_block
from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.errors import CodeTableError, TruncatedError
from clearweight.artifact.symbol_block import (
    decode_fields,
    decode_huffman,
    encode_fields,
    encode_huffman,
    huffman_size,
    run_exponent,
)


def cursor(data: bytes) -> ByteCursor:
    return ByteCursor(io.BytesIO(data), 0, len(data), "part")


def decoded(data: bytes, count: int, alphabet: int) -> list[int]:
    reading = cursor(data)
    symbols = [int(symbol) for chunk in decode_huffman(reading, count, alphabet) for symbol in chunk]
    assert reading.remaining == 0
    return symbols


@given(
    st.integers(2, 256).flatmap(
        lambda a: st.tuples(st.just(a), st.lists(st.integers(0, a - 1), max_size=300))
    )
)
def test_huffman_blocks_round_trip(case):
    alphabet, symbols = case
    data = b"".join(encode_huffman(np.array(symbols, dtype=np.uint8), alphabet))

    assert decoded(data, len(symbols), alphabet) == symbols


def test_the_bytes_of_a_small_block_by_hand():
    # Symbols 0 0 1 2: lengths 1 2 2. Head: run exponent 11 (4), first length 1. Table: "10", "0". Code: 0 0 10 11.
    data = b"".join(encode_huffman(np.array([0, 0, 1, 2], dtype=np.uint8), 3))

    assert data.hex() == "140134"
    assert decoded(data, 4, 3) == [0, 0, 1, 2]


def test_one_symbol_throughout_takes_two_bytes_and_no_code():
    data = b"".join(encode_huffman(np.full(10**5, 7, dtype=np.uint8), 9))

    assert data.hex() == "f407"
    assert decoded(data, 10**5, 9) == [7] * 10**5
    assert huffman_size(np.bincount([7] * 10)) == 2


def test_no_symbols_take_no_bytes():
    assert encode_huffman(np.zeros(0, dtype=np.uint8), 9) == []
    assert decoded(b"", 0, 9) == []
    assert huffman_size(np.zeros(9, dtype=np.int64)) == 0


def test_a_constant_outside_its_alphabet_is_refused():
    with pytest.raises(CodeTableError):
        decoded(b"\xf4\x09", 3, 9)


def test_segments_join_without_a_seam(monkeypatch):
    monkeypatch.setattr(symbol_block, "SEGMENT", 100)
    symbols = np.random.default_rng(0).integers(0, 5, size=1234).astype(np.uint8)

    assert decoded(b"".join(encode_huffman(symbols, 5)), 1234, 5) == symbols.tolist()


def test_predicted_size_is_exact_for_one_stream_and_near_for_many():
    for count in (50, 2000, 40_000):
        symbols = np.random.default_rng(1).binomial(15, 0.3, size=count).astype(np.uint8)
        actual = sum(len(part) for part in encode_huffman(symbols, 16))
        predicted = huffman_size(np.bincount(symbols, minlength=16))
        streams = -(-count >> run_exponent(count))

        assert abs(predicted - actual) <= (0 if streams == 1 else streams)


def test_renaming_codes_other_symbols():
    symbols = np.array([3, 9, 9, 3], dtype=np.uint8)
    rename = np.zeros(256, dtype=np.uint8)
    rename[9] = 1

    assert decoded(b"".join(encode_huffman(symbols, 2, rename)), 4, 2) == [0, 1, 1, 0]
    assert b"".join(encode_fields(symbols, 1, rename)) == b"\x06"


@given(st.lists(st.integers(0, 31), max_size=50))
def test_field_blocks_round_trip(symbols):
    reading = cursor(b"".join(encode_fields(np.array(symbols, dtype=np.uint8), 5)))

    assert [int(symbol) for chunk in decode_fields(reading, len(symbols), 5) for symbol in chunk] == symbols
    assert reading.remaining == 0


def test_short_blocks_are_truncated():
    with pytest.raises(TruncatedError):
        list(decode_fields(cursor(b"a"), 9, 5))
    for data in (b"", b"\x14", b"\xf4"):
        with pytest.raises(TruncatedError):
            list(decode_huffman(cursor(data), 9, 5))
