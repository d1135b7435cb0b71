import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact import canonical_json
from clearweight.artifact.errors import ManifestSyntaxError, NonCanonicalError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_values_round_trip_and_have_one_spelling(value):
    data = canonical_json.dumps(value)

    assert canonical_json.loads(data, "x") == value
    assert json.loads(data) == value
    assert data.isascii()
    assert canonical_json.dumps(canonical_json.loads(data, "x")) == data


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[1 ]",
        b" 1",
        b"1\n",
        b"1.50",
        b"1e0",
        b'"\\u00FC"',
        b'"\\/"',
        b'"\\u0061"',
    ],
)
def test_another_spelling_is_refused(data):
    with pytest.raises(NonCanonicalError):
        canonical_json.loads(data, "x")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"NaN", b"[Infinity]", b"-Infinity", b"1e999", b'{"a":1,"a":1}', b"\xff", '"ü"'.encode(),
     b"1 2", b"[" * 100_000, b"9" * 10_000, b'"\\ud800', b"'a'"],
    ids=lambda data: data[:12],
)  # fmt: skip
def test_what_is_not_json_is_refused(data):
    with pytest.raises(ManifestSyntaxError):
        canonical_json.loads(data, "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [np.float32(1)], {1j: 2}, object()])
def test_what_json_cannot_hold_is_not_written(value):
    with pytest.raises(ManifestSyntaxError):
        canonical_json.dumps(value)


def test_the_message_names_the_first_byte_that_differs():
    with pytest.raises(NonCanonicalError, match="at byte 5"):
        canonical_json.loads(b'{"a": 1}', "x")


def test_keys_are_sorted_by_code_point():
    assert canonical_json.dumps({"é": 1, "b": 2, "B": 3}) == b'{"B":3,"b":2,"\\u00e9":1}'
