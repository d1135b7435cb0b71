"""What the application answers over ASGI, where the conformance list, which goes over the wire, does not ask."""

import json

import numpy as np
import orjson
import pytest

from tests.service.conftest import LIMITS
from tests.service.rest.messages import EXPLAIN, INFER, X, binary, body, entry, failed, outputs, refused


def test_a_model_that_fails_its_self_test_is_not_ready_and_says_why(service):
    model = service.engine.repository.slot("tiny").model
    kept, model.integrity = model.integrity, failed(model.integrity)
    assert "tiny" in refused(service.http.get("/v2/health/ready"), 503)
    assert "Integrity" in refused(service.http.get("/v2/models/tiny/ready"), 503)
    refused(service.http.post(INFER, json=body()), 503)
    model.integrity = kept
    assert service.http.post(INFER, json=body()).status_code == 200


def test_metadata_list_versions_as_people_order_them_and_texts_alone(http):
    found = http.get("/v2/models/tiny").json()
    assert found["versions"] == ["9", "10"]
    assert all(isinstance(value, str) for value in found["properties"].values())


def test_the_numbers_are_those_of_the_engine_in_process(service):
    direct = service.engine.predict(X).logits
    reply = service.http.post(INFER, json=body())
    assert reply.json()["model_version"] == "10"
    assert np.array_equal(outputs(reply)["logits"], direct)
    raw = service.http.post(INFER, **binary(head={"parameters": {"binary_data_output": True}}))
    assert np.array_equal(outputs(raw)["logits"], direct)


def test_an_older_version_answers_under_its_own_path(http):
    assert http.post("/v2/models/tiny/versions/9/infer", json=body()).json()["model_version"] == "9"


@pytest.mark.parametrize(
    "asked",
    [
        body(id=7),
        body(parameters=[]),
        body("input"),
        body(entry(name=3)),
        body(entry(shape=[])),
        body(entry(shape=[2.0, 1, 8, 8])),
        body(entry(shape=[300, 1, 8, 8], data=[1.0])),
        body(entry(datatype="BYTES")),
    ],
    ids=range(8),
)
def test_mistakes_that_no_row_of_the_list_makes(http, asked):
    refused(http.post(INFER, json=asked), 400)


def test_text_that_reads_like_a_number_is_no_number(http):
    text = json.dumps(body()).replace(str(X.ravel().tolist()[20]), '"1.0"', 1)
    assert '"1.0"' in text
    refused(http.post(INFER, content=text), 400)


def test_half_precision_is_told_to_come_as_binary_data(http):
    assert "binary" in refused(http.post(INFER, json=body(entry(datatype="FP16"))), 400)


def test_what_is_too_large_is_413(http):
    refused(http.post(INFER, content=b" " * (LIMITS.body_bytes + 1)), 413)
    refused(http.post(INFER, json=body(entry(shape=[1, 1, 10**9, 10**9], data=[1.0]))), 413)


def test_an_internal_failure_is_in_the_log_and_its_reference_in_the_answer(service, monkeypatch, caplog):
    def explode(self, request):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.plane.lanes["predict"].crew, "run", explode)
    text = refused(service.http.post(INFER, json=body()), 500)
    assert text.startswith("Internal error. Reference ")
    assert "secret" not in text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("default", [True, False])
def test_outputs_go_out_binary_and_as_json_side_by_side(http, default):
    asked = [{"name": "explain", "parameters": {"binary_data": not default}}, {"name": "logits"}]
    reply = http.post(EXPLAIN, json=body(outputs=asked, parameters={"binary_data_output": default}))
    head = orjson.loads(reply.content[: int(reply.headers["Inference-Header-Content-Length"])])
    binary_ones = {item["name"] for item in head["outputs"] if "data" not in item}
    assert binary_ones == ({"logits"} if default else {"explain"})
    assert set(outputs(reply)) == {"explain", "logits"}


def test_a_raw_request_is_explained_too(http):
    raw = {"content": X[:1].tobytes(), "headers": {"Inference-Header-Content-Length": "0"}}
    assert outputs(http.post(EXPLAIN, **raw))["explain"].shape == (1, 1, 8, 8)


def test_a_digit_that_is_none_of_ascii_is_no_length(http):
    given = binary()
    given["headers"]["Inference-Header-Content-Length"] = "\u00b2".encode()
    assert "expected at most" in refused(http.post(INFER, **given), 400)


def test_the_digests_are_the_manifests(service):
    parameters = service.http.post(EXPLAIN, json=body(parameters={"seed": 5})).json()["parameters"]
    manifest = service.engine.repository.slot("tiny").model.manifest
    assert parameters["model_sha256"] == manifest.manifest_sha256
    assert parameters["explainer_sha256"] == manifest.files["explain.input_x_gradient.onnx"].sha256
    assert parameters["seed"] == 5


def test_a_method_without_completeness_has_no_such_output(http):
    found = outputs(http.post(EXPLAIN, json=body(parameters={"method": "gradient", "target": 2})))
    assert list(found) == ["explain", "logits", "target"]
    assert found["target"].tolist() == [2, 2]


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "lime"},
        {"method": 3},
        {"target": 5},
        {"target": -2},
        {"target": "1"},
        {"target": True},
        {"target": 1.0},
        {"steps": 0},
        {"steps": 10_000},
        {"steps": 8},
        {"baseline": "blur"},
        {"seed": -1},
        {"seed": "x"},
        {"preprocess": "yes"},
    ],
)
def test_bad_parameters(http, parameters):
    refused(http.post(EXPLAIN, json=body(parameters=parameters)), 400)


def test_a_target_given_twice_is_refused(http):
    target = {"name": "target", "shape": [2], "datatype": "INT64", "data": [0, 1]}
    refused(http.post(EXPLAIN, json=body(entry(), target, parameters={"target": 1})), 400)
    refused(http.post(EXPLAIN, json=body(entry(), target, target)), 400)
    refused(http.post(EXPLAIN, json=body(entry(), target | {"datatype": "INT32"})), 400)
    refused(http.post(EXPLAIN, json=body(entry(), target | {"data": [0, 5]})), 400)


@pytest.mark.parametrize(
    "path",
    [EXPLAIN, "/v2/models/tiny/versions/10/explain", "/explanations/tiny", "/explanations/tiny/10"],
)
def test_every_path_gives_the_same_numbers(service, path):
    found = outputs(service.http.post(path, json=body()))
    raw = outputs(service.http.post(path, **binary(head={"parameters": {"binary_data_output": True}})))
    direct = service.engine.explain(X)
    assert np.array_equal(found["explain"], direct.map)
    assert np.array_equal(raw["explain"], direct.map)


def test_a_non_finite_output_is_an_error_in_json_and_a_value_in_binary(http):
    huge = np.full((1, 1, 8, 8), 3e38, np.float32)
    text = refused(http.post(INFER, json=body(entry(huge))), 500)
    assert "binary" in text
    reply = http.post(INFER, **binary(huge, head={"parameters": {"binary_data_output": True}}))
    assert not np.isfinite(outputs(reply)["logits"]).all()


def test_the_drift_report_answers_three_questions(http):
    found = http.get("/v2/models/tiny/drift").json()

    assert found["fidelity"]["state"] == "passed"
    assert found["fidelity"]["record"]["min_attribution_similarity"] == 0.8
    assert found["integrity"]["limit"]["logits_atol"] == 1e-4
    assert found["drift"]["state"] == "disabled"
    refused(http.get("/v2/models/other/drift"), 404)


def test_openapi_names_every_path_with_its_parameters(http):
    document = http.get("/openapi.json").json()

    assert {EXPLAIN.replace("tiny", "{model}"), "/v1/models/{model}:explain"} <= set(document["paths"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert named == {part.split("}")[0] for part in path.split("{")[1:]}
            assert "422" not in operation["responses"]
