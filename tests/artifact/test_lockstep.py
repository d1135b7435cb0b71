import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.byte_cursor import ByteCursor
from clearweight.artifact.errors import CodeStreamError, SurplusBytesError, TruncatedError
from clearweight.artifact.huffman import code_lengths, code_words, decode_table
from clearweight.artifact.lockstep import decode_segment, encode_segment, stream_count


def cursor(data: bytes) -> ByteCursor:
    return ByteCursor(io.BytesIO(data), 0, len(data), "part")


def encoded(symbols: np.ndarray, exponent: int, alphabet: int = 8):
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    return encode_segment(symbols, lengths, code_words(lengths), exponent), lengths


def sample(count: int, seed: int = 0, alphabet: int = 8) -> np.ndarray:
    weight = 0.6 ** np.arange(alphabet)
    symbols = np.random.default_rng(seed).choice(alphabet, size=count, p=weight / weight.sum())
    symbols[:2] = [0, 1]  # at least two different ones
    return symbols.astype(np.uint8)


def slowly_decoded(bits: str, lengths: np.ndarray, count: int) -> tuple[list[int], str]:
    words = {
        f"{int(w):0{int(n)}b}"[::-1]: symbol
        for symbol, (w, n) in enumerate(zip(code_words(lengths), lengths, strict=True))
        if n
    }
    found, start = [], 0
    while len(found) < count:
        end = next(end for end in range(start + 1, start + 13) if bits[start:end] in words)
        found.append(words[bits[start:end]])
        start = end
    return found, bits[start:]


@given(st.integers(2, 700), st.integers(3, 9), st.integers(0, 99))
def test_segments_round_trip(count, exponent, seed):
    symbols = sample(count, seed)
    data, lengths = encoded(symbols, exponent)
    reading = cursor(data + b"more")

    assert np.array_equal(decode_segment(reading, count, decode_table(lengths), exponent), symbols)
    assert reading.remaining == len(b"more")


def test_a_single_stream_is_plain_huffman_code_read_bit_by_bit():
    symbols = sample(50)
    data, lengths = encoded(symbols, 9)
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    found, rest = slowly_decoded(bits, lengths, 50)

    assert found == symbols.tolist()
    assert len(rest) < 8
    assert set(rest) <= {"0"}


def test_streams_interleave_and_are_indexed_as_in_spec_2_5():
    symbols = sample(21)
    data, lengths = encoded(symbols, 3)  # three streams of seven symbols
    least, width = data[0], data[1]
    index = int.from_bytes(data[2 : 2 + (2 * width + 7) // 8], "little")
    sizes = [least + (index >> (k * width) & (2**width - 1)) for k in range(2)]
    bits = "".join(f"{byte:08b}"[::-1] for byte in data[2 + (2 * width + 7) // 8 :])
    start = 0

    for stream in range(3):
        found, rest = slowly_decoded(bits[start:], lengths, 7)
        assert found == symbols[stream::3].tolist()
        if stream < 2:
            assert len(bits) - start - len(rest) == sizes[stream]
        start = len(bits) - len(rest)


def test_stream_count_grows_with_the_symbols_and_is_at_least_one():
    assert [stream_count(count, 7) for count in (0, 1, 128, 129, 257)] == [1, 1, 1, 2, 3]


@pytest.mark.parametrize("exponent", [3, 9])
def test_code_that_ends_too_early_is_refused(exponent):
    symbols = sample(100)
    data, lengths = encoded(symbols, exponent)
    for cut in range(len(data)):
        with pytest.raises((TruncatedError, CodeStreamError, SurplusBytesError)):
            decode_segment(cursor(data[:cut]), 100, decode_table(lengths), exponent)


def test_an_index_that_lies_is_refused():
    symbols = sample(100)
    data, lengths = encoded(symbols, 3)
    for lie in (
        bytes([data[0] + 1]) + data[1:],
        bytes([data[0] - 1]) + data[1:],
        b"\xff\xff\xff\x7f" + data[1:],
    ):
        with pytest.raises(CodeStreamError):
            decode_segment(cursor(lie), 100, decode_table(lengths), 3)
    with pytest.raises(CodeStreamError, match="at most 26"):
        decode_segment(cursor(data[:1] + b"\x1b" + data[2:]), 100, decode_table(lengths), 3)


def test_a_set_padding_bit_is_refused():
    symbols = np.array([0, 1, 2], dtype=np.uint8)  # 1 + 2 + 2 bits
    data, lengths = encoded(symbols, 7)

    assert len(data) == 1
    with pytest.raises(SurplusBytesError):
        decode_segment(cursor(bytes([data[0] | 0x80])), 3, decode_table(lengths), 7)


def test_decoding_a_full_segment_takes_less_than_48_mb():
    symbols = np.random.default_rng(0).integers(0, 256, size=1 << 22).astype(np.uint8)
    data, lengths = encoded(symbols, 12, 256)
    reading = cursor(data)
    table = decode_table(lengths)
    tracemalloc.start()
    decoded = decode_segment(reading, symbols.size, table, 12)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(decoded, symbols)
    assert peak < 48e6
