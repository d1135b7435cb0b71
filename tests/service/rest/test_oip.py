from contextlib import suppress

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearweight.artifact import TensorSpec
from clearweight.service import InvalidRequestError, Limits, ServiceError
from clearweight.service.core.types import InferResponse, Tensor
from clearweight.service.rest.oip import ReplyForm, decode_infer, decode_raw, encode_infer, holds_literal

LIMITS = Limits()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"data": [1, 2]}', False),
        (b'{"inputs": [true]}', True),
        (b"[false]", True),
        (b"[1, 2, tru]", False),
        (b"uuullll", False),
        (b"", False),
    ],
)
def test_literals_are_found_wherever_they_stand(text, expected):
    assert holds_literal(text) is expected
    assert holds_literal(memoryview(text)) is expected


@pytest.mark.parametrize(
    "specs",
    [
        (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 2))),
        (TensorSpec("a", "FP32", (-1, -1)),),
    ],
)
def test_30_raw_requests_need_one_input_and_one_variable_dimension(specs):
    with pytest.raises(InvalidRequestError, match="raw request"):
        decode_raw("m", None, specs, b"\0" * 8, LIMITS)


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_written_can_be_read_again(binary):
    tensors = (
        Tensor("p", "FP32", np.arange(6, dtype=np.float32).reshape(2, 3) / 7),
        Tensor("q", "INT64", np.array([-1, 2**62])),
    )
    body, length = encode_infer(InferResponse("m", "1", tensors, id="i"), ReplyForm(binary))
    document = orjson.loads(body[:length])
    head = orjson.dumps({"inputs": document["outputs"], "id": document["id"]})
    again = head + (body[length:] if length else b"")

    found, _ = decode_infer("m", None, again, str(len(head)).encode() if length else None, LIMITS)

    assert (length is not None) is binary
    assert found.id == "i"
    for before, after in zip(tensors, found.inputs, strict=True):
        assert after.values.dtype == before.values.dtype
        assert np.array_equal(after.values, before.values)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "name", "shape", "datatype", "data", "parameters", "outputs", "id"]
                ),
                x,
            )
        ),
    )
)
def test_any_json_is_an_answer_or_a_named_error(document):
    with suppress(ServiceError):
        decode_infer("m", None, orjson.dumps(document), None, LIMITS)
