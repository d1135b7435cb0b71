import numpy as np
import pytest

from clearweight.artifact.bit_pattern import DTYPES, bit_pattern, narrowest_float


def test_minus_zero_is_not_zero_and_nan_equals_itself():
    bits = bit_pattern(np.array([0.0, -0.0, np.nan, np.nan], dtype=np.float32))

    assert [bool(b) for b in bits] == [False, True, True, True]
    assert bits[2] == bits[3]


def test_scalars_and_big_endian_values_have_patterns():
    assert bit_pattern(np.array(1.0, dtype=np.float32)).shape == ()
    assert bit_pattern(np.array([1], dtype=">i4")).tolist() == [1]


@pytest.mark.parametrize(
    ("values", "dtype", "narrow"),
    [
        ([0.5, -0.0, np.inf], "f4", "f2"),
        ([0.1], "f4", "f4"),
        ([1e10], "f4", "f4"),
        ([2.0**-24], "f8", "f2"),
        ([0.1], "f8", "f8"),
        ([float(np.float32(0.1))], "f8", "f4"),
        ([1], "i8", "i8"),
        ([0.5], "f2", "f2"),
    ],
)
def test_floats_narrow_only_where_every_bit_comes_back(values, dtype, narrow):
    assert narrowest_float(np.array(values, dtype=dtype)) == np.dtype(narrow)


def test_a_signalling_nan_is_not_narrowed():
    odd = np.array([0x7F800001], dtype=np.uint32).view(np.float32)

    assert narrowest_float(odd) == np.dtype("f4")


def test_dtype_codes_are_those_of_spec_3_3():
    assert [str(dtype) for dtype in DTYPES] == [
        "float16",
        "float32",
        "float64",
        "int8",
        "uint8",
        "int32",
        "int64",
    ]
