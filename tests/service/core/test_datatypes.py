import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clearweight.service import InvalidRequestError, NonFiniteOutputError
from clearweight.service.core.datatypes import (
    DATATYPES,
    datatype,
    datatype_of,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

NUMBERS = [name for name, kind in DATATYPES.items() if kind.json in ("float", "integer")]


@pytest.mark.parametrize("name", NUMBERS)
def test_flat_and_nested_data_read_the_same(name):
    kind = DATATYPES[name]
    flat = from_json("x", kind, (2, 3), [0, 1, 2, 3, 4, 5])

    assert flat.dtype == kind.dtype
    assert np.array_equal(flat, from_json("x", kind, (2, 3), [[0, 1, 2], [3, 4, 5]]))


@pytest.mark.parametrize(
    ("name", "shape", "data"),
    [
        ("FP32", (2, 2), [[1, 2], [3]]),
        ("FP32", (2, 2), [[1, 2], 3]),
        ("FP32", (2, 2), [1, 2, 3]),
        ("FP32", (2,), [1.0, "2.0"]),
        ("FP32", (2,), [1.0, None]),
        ("FP32", (2,), [1.0, True]),
        ("FP32", (2, 2), [[1, 2], [3, [4]]]),
        ("FP32", (1,), [1e39]),
        ("FP64", (1,), [10**400]),
        ("FP32", (2,), "12"),
        ("FP32", (2,), {"0": 1}),
        ("INT32", (1,), [1.5]),
        ("INT32", (1,), [True]),
        ("INT8", (1,), [128]),
        ("INT8", (1,), [-129]),
        ("UINT8", (1,), [-1]),
        ("UINT8", (1,), [256]),
        ("UINT64", (1,), [2**64]),
        ("INT64", (1,), [-(2**63) - 1]),
        ("BOOL", (2,), [True, 1]),
        ("BYTES", (2,), ["a", 1]),
        ("FP16", (1,), [1.0]),
        ("BF16", (1,), [1.0]),
    ],
)
def test_json_that_is_not_the_type_or_shape_is_refused(name, shape, data):
    with pytest.raises(InvalidRequestError, match="Input 'x'"):
        from_json("x", DATATYPES[name], shape, data)


def test_extreme_integers_keep_every_bit():
    assert from_json("x", DATATYPES["UINT64"], (1,), [2**64 - 1])[0] == 2**64 - 1
    assert from_json("x", DATATYPES["INT64"], (2,), [-(2**63), 2**63 - 1]).tolist() == [-(2**63), 2**63 - 1]


def test_text_and_booleans_read_as_themselves():
    assert from_json("x", DATATYPES["BYTES"], (2,), ["ä", ""]).tolist() == ["ä".encode(), b""]
    assert from_json("x", DATATYPES["BOOL"], (1, 2), [[True, False]]).tolist() == [[True, False]]


@pytest.mark.parametrize("name", [name for name in DATATYPES if name not in ("BYTES", "BOOL")])
@given(data=st.data())
def test_raw_bytes_round_trip(name, data):
    kind = DATATYPES[name]
    values = data.draw(hnp.arrays(kind.dtype, hnp.array_shapes(max_dims=3, max_side=4)))
    raw = to_bytes(kind, values)

    assert to_bytes(kind, from_bytes("x", kind, values.shape, raw)) == raw
    assert len(raw) == values.size * kind.size


def test_raw_bytes_are_little_endian_whatever_the_array_is():
    assert to_bytes(DATATYPES["UINT16"], np.array([258], ">u2")) == b"\x02\x01"
    assert from_bytes("x", DATATYPES["INT32"], (1,), b"\x01\x02\x00\x00")[0] == 513


def test_bytes_elements_carry_their_length():
    raw = struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0)
    values = from_bytes("x", DATATYPES["BYTES"], (2,), raw)

    assert values.tolist() == [b"ab", b""]
    assert to_bytes(DATATYPES["BYTES"], values) == raw


@pytest.mark.parametrize(
    ("name", "shape", "raw"),
    [
        ("FP32", (2,), b"\0" * 7),
        ("FP32", (2,), b"\0" * 12),
        ("BOOL", (2,), b"\x00\x02"),
        ("BYTES", (1,), struct.pack("<I", 5) + b"ab"),
        ("BYTES", (1,), b"\x01\x00"),
        ("BYTES", (2,), struct.pack("<I", 1) + b"a"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(name, shape, raw):
    with pytest.raises(InvalidRequestError):
        from_bytes("x", DATATYPES[name], shape, raw)


def test_a_tensor_at_an_odd_byte_is_aligned_for_the_kernels():
    body = memoryview(b"\x00" + np.arange(3, dtype="<f4").tobytes())

    values = from_bytes("x", DATATYPES["FP32"], (3,), body[1:])

    assert values.flags.aligned
    assert values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_outputs_are_an_error_in_json(bad):
    with pytest.raises(NonFiniteOutputError, match="binary"):
        to_json("y", DATATYPES["FP32"], np.array([1, bad], np.float32))


def test_unknown_names_and_types_are_refused():
    with pytest.raises(InvalidRequestError, match="FLOAT"):
        datatype("FLOAT", "Input 'x'")
    with pytest.raises(InvalidRequestError):
        datatype(["FP32"], "Input 'x'")
    with pytest.raises(InvalidRequestError, match="complex"):
        datatype_of(np.zeros(1, complex))
    assert datatype_of(np.zeros(1, ">f4")) == "FP32"
