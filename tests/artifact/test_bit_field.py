import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact.bit_field import field_bytes, field_width, pack_fields, unpack_fields
from clearweight.artifact.errors import SurplusBytesError


def slowly_packed(numbers: list[int], width: int) -> bytes:
    whole = sum(number << (place * width) for place, number in enumerate(numbers))
    return whole.to_bytes(field_bytes(len(numbers), width), "little")


def test_fields_are_the_bytes_of_spec_2_2():
    assert pack_fields(np.array([1, 2, 3]), 3).hex() == "d100"


@given(
    st.integers(1, 26).flatmap(
        lambda w: st.tuples(st.just(w), st.lists(st.integers(0, 2**w - 1), max_size=40))
    )
)
def test_fields_equal_one_big_integer(case):
    width, numbers = case
    data = pack_fields(np.array(numbers, dtype=np.int64), width)

    assert data == slowly_packed(numbers, width)
    assert unpack_fields(data, len(numbers), width, "part").tolist() == numbers


def test_chunks_join_without_a_seam():
    numbers = np.random.default_rng(0).integers(0, 8, size=(1 << 19) + 13)

    assert np.array_equal(unpack_fields(pack_fields(numbers, 3), numbers.size, 3, "part"), numbers)


def test_width_zero_takes_no_bytes_and_means_zeros():
    assert pack_fields(np.zeros(9, dtype=np.uint8), 0) == b""
    assert unpack_fields(b"", 9, 0, "part").tolist() == [0] * 9


def test_a_set_padding_bit_is_refused():
    with pytest.raises(SurplusBytesError):
        unpack_fields(b"\x08", 1, 3, "part")


def test_field_width_is_what_the_largest_number_needs():
    assert [field_width(largest) for largest in (0, 1, 2, 255, 256)] == [0, 1, 2, 8, 9]
