"""Rows 34 to 36 and the V1 part of 53."""

import numpy as np
import orjson
import pytest

from clearweight.artifact import TensorSpec
from clearweight.service import InvalidRequestError, Limits
from clearweight.service.core.types import InferResponse, Tensor
from clearweight.service.rest.v1 import decode_v1, encode_v1
from tests.service import artifacts
from tests.service.rest.messages import X, failed, refused

PREDICT, EXPLAIN = "/v1/models/tiny:predict", "/v1/models/tiny:explain"


def test_34_models_and_their_states(service):
    assert service.http.get("/v1/models").json() == {"models": ["tiny"]}
    assert service.http.get("/v1/models/tiny").json() == {"name": "tiny", "ready": True}
    refused(service.http.get("/v1/models/other"), 404)
    model = service.engine.repository.slot("tiny").model
    model.integrity = failed(model.integrity)
    refused(service.http.get("/v1/models/tiny"), 503)


@pytest.mark.parametrize(
    "document",
    [
        {"instances": X.tolist()},
        {"inputs": X.tolist()},
        {"instances": X.reshape(2, -1).tolist()},
        {"instances": [{"input": row} for row in X.tolist()]},
        {"inputs": {"input": X.tolist()}},
    ],
)
def test_35_predict_by_rows_and_by_columns(service, document):
    found = service.http.post(PREDICT, json=document)

    assert set(found.json()) == {"predictions"}
    assert np.array_equal(np.array(found.json()["predictions"], np.float32), service.engine.predict(X).logits)


def test_36_explain_returns_both_keys(service):
    asked = {"instances": X.tolist(), "parameters": {"target": 3}}
    found = service.http.post(EXPLAIN, json=asked).json()
    predicted = service.http.post(PREDICT, json={"instances": X.tolist()}).json()

    assert set(found) == {"predictions", "explanations"}
    assert found["predictions"] == predicted["predictions"]
    assert np.array_equal(
        np.array(found["explanations"], np.float32), service.engine.explain(X, target=3).map
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"instances": []},
        {"instances": 3},
        {"instances": X.tolist(), "inputs": X.tolist()},
        {"instances": [[1.0]]},
        {"instances": X.ravel().tolist()},
        {"instances": [{"other": X[0].tolist()}]},
        {"inputs": {"other": X.tolist()}},
        {"inputs": {}},
        {"instances": [X[0].tolist(), X[1, 0].tolist()]},
        {"instances": ["a"]},
        {"instances": X.tolist(), "parameters": {"a": []}},
        [],
    ],
)
def test_bad_bodies(service, document):
    refused(service.http.post(PREDICT, json=document), 400)


def test_unknown_models_are_404(service):
    refused(service.http.post("/v1/models/other:predict", json={"instances": X.tolist()}), 404)


SPECS = (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, -1)))


def test_several_inputs_are_named_and_a_variable_axis_takes_its_size_from_the_nesting():
    rows = orjson.dumps({"instances": [{"a": [1, 2], "b": [1, 2, 3]}, {"a": [3, 4], "b": [4, 5, 6]}]})
    columns = orjson.dumps({"inputs": {"a": [[1, 2], [3, 4]], "b": [[1, 2, 3], [4, 5, 6]]}})

    for body in (rows, columns):
        found = decode_v1("m", SPECS, body, Limits())
        assert [tensor.values.tolist() for tensor in found.inputs] == [
            [[1, 2], [3, 4]],
            [[1, 2, 3], [4, 5, 6]],
        ]
    with pytest.raises(InvalidRequestError, match="name them"):
        decode_v1("m", SPECS, b'{"instances": [[1, 2]]}', Limits())


def test_several_outputs_become_objects_per_row():
    tensors = tuple(Tensor(name, "FP32", np.ones((2, 1), np.float32)) for name in ("p", "q"))

    found = orjson.loads(encode_v1(InferResponse("m", "1", tensors), ["p", "q"]))

    assert found == {"predictions": [{"p": [1.0], "q": [1.0]}] * 2}


def test_rows_match_the_oracle(service):
    oracle = artifacts.pruned(artifacts.network(), 0.2).logits(X)
    found = service.http.post(PREDICT, json={"instances": X.tolist()}).json()["predictions"]

    assert np.allclose(found, oracle, atol=1e-6)
