import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.code_table import code_table_bytes, read_code_table
from clearweight.artifact.errors import CodeTableError, SurplusBytesError, TruncatedError
from clearweight.artifact.huffman import code_lengths


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=256).filter(lambda c: sum(n > 0 for n in c) > 1))
def test_tables_round_trip(counts):
    lengths = code_lengths(np.array(counts))
    data = code_table_bytes(lengths)
    back, used = read_code_table(data + b"\xff", int(lengths[0]), lengths.size, "part")

    assert back.tolist() == lengths.tolist()
    assert used == len(data)


def test_the_bits_are_those_of_spec_2_4():
    # 1 2 2 and two unused: "10", "0", "111" + 15, low bit first.
    assert code_table_bytes(np.array([1, 2, 2, 0, 0], dtype=np.uint8)).hex() == "f903"
    # 2 1 2: "110", "10".
    assert code_table_bytes(np.array([2, 1, 2], dtype=np.uint8)).hex() == "0b"
    # 0 1 0 1 in an alphabet of four: "10", "110", "10".
    assert code_table_bytes(np.array([0, 1, 0, 1], dtype=np.uint8)).hex() == "2d"


def test_a_sorted_codebook_of_32_entries_has_a_table_of_five_bytes():
    counts = np.round(10000 * 0.8 ** np.arange(32)).astype(int)

    assert len(code_table_bytes(code_lengths(counts))) <= 6


def test_a_table_that_never_ends_is_truncated():
    with pytest.raises(TruncatedError):
        read_code_table(b"", 1, 3, "part")


@pytest.mark.parametrize(
    ("first", "bits"),
    [(0, [1, 1, 0]), (12, [1, 0]), (1, [1, 1, 1, 1, 0, 1, 1])],  # below 0, above 12, explicitly 13
)
def test_lengths_outside_0_to_12_are_refused(first, bits):
    data = np.packbits(np.array(bits + [0] * 9, dtype=np.uint8), bitorder="little").tobytes()
    with pytest.raises(CodeTableError):
        read_code_table(data, first, 3, "part")


def test_tables_that_break_kraft_are_refused():
    with pytest.raises(CodeTableError, match="over"):
        read_code_table(b"\x00", 1, 3, "part")  # 1 1 1
    with pytest.raises(CodeTableError, match="under"):
        read_code_table(b"\x00", 2, 3, "part")  # 2 2 2


def test_a_set_padding_bit_is_refused():
    with pytest.raises(SurplusBytesError):
        read_code_table(b"\x81", 1, 3, "part")
    assert read_code_table(b"\x01", 1, 3, "part")[0].tolist() == [1, 2, 2]
