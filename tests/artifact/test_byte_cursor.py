import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.byte_cursor import ByteCursor, varint_bytes
from clearweight.artifact.errors import TensorFieldError, TruncatedError


def cursor(data: bytes, start: int = 0, end: int | None = None) -> ByteCursor:
    return ByteCursor(io.BytesIO(data), start, len(data) if end is None else end, "part")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**63 - 1, "ff" * 8 + "7f")]
)
def test_varints_are_the_bytes_of_spec_2_1(number, text):
    assert varint_bytes(number).hex() == text
    assert cursor(bytes.fromhex(text)).varint() == number


@given(st.integers(0, 2**63 - 1))
def test_varints_round_trip(number):
    data = varint_bytes(number)
    reading = cursor(data)

    assert reading.varint() == number
    assert reading.remaining == 0


@pytest.mark.parametrize("text", ["8000", "ff00", "80" * 9 + "01", "ff" * 10])
def test_a_longer_spelling_of_a_number_is_refused(text):
    with pytest.raises(TensorFieldError):
        cursor(bytes.fromhex(text)).varint()


def test_an_unfinished_varint_is_truncated():
    with pytest.raises(TruncatedError):
        cursor(b"\x80").varint()


def test_a_cursor_never_reads_behind_its_part():
    reading = cursor(b"abcdef", 1, 4)

    assert reading.peek(100) == b"bcd"
    assert reading.take(2) == b"bc"
    with pytest.raises(TruncatedError, match="part needs 2 bytes at 3 but ends at 4"):
        reading.take(2)
    with pytest.raises(TruncatedError):
        reading.skip(2)
    reading.skip(1)
    assert reading.remaining == 0


def test_a_file_that_shrank_meanwhile_is_truncated():
    with pytest.raises(TruncatedError, match="shrank"):
        cursor(b"ab", 0, 5).take(4)
