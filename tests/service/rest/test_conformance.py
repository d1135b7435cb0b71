"""Rows 1 to 33, 51 and 53 of the conformance list, over ASGI; the numbers in the names are stable."""

import json
import struct

import numpy as np
import orjson
import pytest

from clearweight.service import Engine
from tests.service import artifacts
from tests.service.conftest import LIMITS
from tests.service.rest.messages import EXPLAIN, INFER, X, binary, body, entry, failed, outputs, refused


@pytest.fixture
def direct(service):
    return service.engine.predict(X).logits


class TestHealthAndMetadata:
    def test_01_live(self, http):
        reply = http.get("/v2/health/live")
        assert (reply.status_code, reply.json()) == (200, {"live": True})

    def test_02_ready(self, http):
        reply = http.get("/v2/health/ready")
        assert (reply.status_code, reply.json()) == (200, {"ready": True, "live": True})

    def test_02_not_ready_while_a_model_is_not(self, service):
        service.engine.repository.slot("tiny").low_fidelity = "refuse"
        model = service.engine.repository.slot("tiny").model
        kept, model.integrity = model.integrity, failed(model.integrity)
        assert "tiny" in refused(service.http.get("/v2/health/ready"), 503)
        model.integrity = kept

    def test_03_draining_is_not_ready_but_live(self, service):
        service.plane.draining = True
        refused(service.http.get("/v2/health/ready"), 503)
        refused(service.http.get("/v2/models/tiny/ready"), 503)
        refused(service.http.post(INFER, json=body()), 503)
        assert service.http.get("/v2/health/live").status_code == 200

    def test_04_server_metadata_with_and_without_slash(self, http):
        first, second = http.get("/v2"), http.get("/v2/")
        assert first.json() == second.json()
        assert set(first.json()) == {"name", "version", "extensions"}
        assert first.json()["extensions"] == ["binary_tensor_data", "classification", "explain"]

    def test_05_model_metadata_equals_the_onnx_file(self, http):
        found = http.get("/v2/models/tiny").json()
        assert found["name"] == "tiny"
        assert found["versions"] == ["9", "10"]
        assert found["platform"] == "onnx_onnxv1"
        assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
        assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 5]}]
        assert all(isinstance(value, str) for value in found["properties"].values())

    def test_06_versions_in_paths(self, http):
        assert http.get("/v2/models/tiny/versions/10").json() == http.get("/v2/models/tiny").json()
        refused(http.get("/v2/models/tiny/versions/11"), 404)

    def test_07_model_ready(self, service):
        assert service.http.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
        refused(service.http.get("/v2/models/other/ready"), 404)
        model = service.engine.repository.slot("tiny").model
        model.integrity = failed(model.integrity)
        assert "Integrity" in refused(service.http.get("/v2/models/tiny/ready"), 503)
        refused(service.http.post(INFER, json=body()), 503)

    @pytest.mark.parametrize(
        ("verb", "path", "status"),
        [
            ("GET", "/v2/nothing", 404),
            ("GET", "/", 404),
            ("GET", "/v2/models/tiny/", 404),
            ("GET", INFER, 405),
            ("POST", "/v2/models/tiny", 405),
            ("DELETE", "/v2", 405),
        ],
    )
    def test_08_unknown_paths_and_verbs(self, http, verb, path, status):
        refused(http.request(verb, path), status)

    def test_model_list(self, http):
        assert http.get("/v2/models").json() == {"models": ["tiny"]}


class TestInferJson:
    def test_09_flat_data(self, http, direct):
        reply = http.post(INFER, json=body())
        assert reply.status_code == 200
        assert reply.json()["model_name"] == "tiny"
        assert reply.json()["model_version"] == "10"
        assert len(reply.json()["outputs"][0]["data"]) == 10
        assert np.array_equal(outputs(reply)["logits"], direct)

    def test_10_nested_data(self, http):
        flat, nested = (http.post(INFER, json=body(given)) for given in (entry(), entry(data=X.tolist())))
        assert flat.content == nested.content

    def test_11_id(self, http):
        assert http.post(INFER, json=body(id="seven")).json()["id"] == "seven"
        assert "id" not in http.post(INFER, json=body()).json()
        refused(http.post(INFER, json=body(id=7)), 400)

    def test_12_output_selection_in_the_order_asked(self, http):
        asked = [{"name": name} for name in ("target", "logits")]
        reply = http.post(EXPLAIN, json=body(outputs=asked))
        assert [item["name"] for item in reply.json()["outputs"]] == ["target", "logits"]
        assert [i["name"] for i in http.post(INFER, json=body(outputs=[])).json()["outputs"]] == ["logits"]

    @pytest.mark.parametrize("asked", [[{"name": "other"}], [{}], ["logits"], {"name": "logits"}])
    def test_13_bad_requested_outputs(self, http, asked):
        refused(http.post(INFER, json=body(outputs=asked)), 400)

    @pytest.mark.parametrize(
        "inputs",
        [
            [entry(name="x")],
            [],
            [entry(), entry()],
            [entry(), entry(name="y")],
            [entry(name="")],
            [entry(name=3)],
            ["input"],
        ],
    )
    def test_14_bad_input_names(self, http, inputs):
        refused(http.post(INFER, json={"inputs": inputs}), 400)

    @pytest.mark.parametrize("data", [X.ravel().tolist()[:-1], [*X.ravel().tolist(), 0.0], []])
    def test_15_element_count(self, http, data):
        refused(http.post(INFER, json=body(entry(data=data))), 400)

    @pytest.mark.parametrize(
        "shape", [[2, 64], [2, 1, 8, 7], [0, 1, 8, 8], [-1, 1, 8, 8], [], "2", [2.0, 1, 8, 8], None]
    )
    def test_16_shapes(self, http, shape):
        refused(http.post(INFER, json=body(entry(shape=shape))), 400)

    @pytest.mark.parametrize("datatype", ["FLOAT", "", None, 1, "FP64", "INT32", "BYTES", "BOOL"])
    def test_17_datatypes(self, http, datatype):
        refused(http.post(INFER, json=body(entry(datatype=datatype))), 400)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"3",
            b"null",
            b'{"inputs": 3}',
            b"{}",
            b"\xff\xfe",
            b'{"inputs": {}}',
            b"a" * 1000,
        ],
    )
    def test_18_malformed(self, http, content):
        refused(http.post(INFER, content=content), 400)

    @pytest.mark.parametrize("field", ["name", "shape", "datatype", "data"])
    def test_18_missing_field(self, http, field):
        given = entry()
        del given[field]
        refused(http.post(INFER, json=body(given)), 400)

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_19_half_precision_is_binary_only(self, http, datatype):
        assert "binary" in refused(http.post(INFER, json=body(entry(datatype=datatype))), 400)

    @pytest.mark.parametrize(
        "token", ["NaN", "Infinity", "-Infinity", '"1.0"', "null", "true", "[1]", "1e39", "1e999"]
    )
    def test_20_elements_that_are_no_finite_number(self, http, token):
        text = json.dumps(body()).replace(str(X.ravel().tolist()[20]), token, 1)
        assert token in text
        refused(http.post(INFER, content=text), 400)

    def test_20_ragged(self, http):
        data = X.tolist()
        data[1][0][3].pop()
        refused(http.post(INFER, json=body(entry(data=data))), 400)

    def test_20_integer_out_of_range(self, http):
        target = {"name": "target", "shape": [2], "datatype": "INT64", "data": [0, 2**63]}
        refused(http.post(EXPLAIN, json=body(entry(), target)), 400)

    def test_21_parameters(self, http):
        refused(http.post(INFER, json=body(parameters={"a": {"b": 1}})), 400)
        refused(http.post(INFER, json=body(entry(parameters={"a": [1]}))), 400)
        refused(http.post(INFER, json=body(parameters=[])), 400)
        assert http.post(INFER, json=body(parameters={"anything": 1})).status_code == 200

    def test_22_rows_together_equal_rows_alone(self, http):
        together = outputs(http.post(INFER, json=body()))["logits"]
        alone = [outputs(http.post(INFER, json=body(entry(X[i : i + 1]))))["logits"][0] for i in (0, 1)]
        assert np.allclose(together, alone, atol=1e-6)

    def test_23_sizes(self, http):
        refused(http.post(INFER, content=b" " * (LIMITS.body_bytes + 1)), 413)
        refused(http.post(INFER, content=b"{}", headers={"Content-Length": str(10**12)}), 413)
        refused(http.post(INFER, json=body(entry(shape=[1, 1, 10**9, 10**9], data=[1.0]))), 413)
        refused(http.post(INFER, json=body(entry(shape=[300, 1, 8, 8], data=[1.0]))), 400)

    def test_23_an_undeclared_length_is_cut_at_the_limit(self, http):
        async def endless():
            for _ in range(100):
                yield b" " * 10_000

        refused(http.post(INFER, content=endless()), 413)

    def test_24_unknown_model_and_versioned_path(self, http, direct):
        refused(http.post("/v2/models/other/infer", json=body()), 404)
        refused(http.post("/v2/models/tiny/versions/1/infer", json=body()), 404)
        assert np.array_equal(
            outputs(http.post("/v2/models/tiny/versions/10/infer", json=body()))["logits"], direct
        )
        assert http.post("/v2/models/tiny/versions/9/infer", json=body()).json()["model_version"] == "9"

    def test_25_an_internal_failure_shows_a_reference_only(self, service, monkeypatch, caplog):
        def explode(self, request):
            raise RuntimeError("secret detail")

        monkeypatch.setattr(service.plane.lanes["predict"], "_run", explode)
        text = refused(service.http.post(INFER, json=body()), 500)
        assert "secret" not in text
        assert "Traceback" not in text
        assert text.startswith("Internal error. Reference ")
        assert "secret detail" in caplog.text


class TestInferBinary:
    def test_26_binary_in_json_out(self, http, direct):
        reply = http.post(INFER, **binary())
        assert reply.headers["content-type"] == "application/json"
        assert np.array_equal(outputs(reply)["logits"], direct)

    def test_27_binary_out(self, http, direct):
        reply = http.post(INFER, **binary(head={"parameters": {"binary_data_output": True}}))
        assert reply.headers["content-type"] == "application/octet-stream"
        length = int(reply.headers["Inference-Header-Content-Length"])
        assert int(reply.headers["content-length"]) == len(reply.content) == length + direct.nbytes
        assert reply.content[length:] == direct.astype("<f4").tobytes()

    @pytest.mark.parametrize("default", [True, False])
    def test_28_the_output_wins_over_the_default(self, http, default):
        asked = [{"name": "explain", "parameters": {"binary_data": not default}}, {"name": "logits"}]
        reply = http.post(EXPLAIN, json=body(outputs=asked, parameters={"binary_data_output": default}))
        head = orjson.loads(reply.content[: int(reply.headers["Inference-Header-Content-Length"])])
        binary_ones = {item["name"] for item in head["outputs"] if "data" not in item}
        assert binary_ones == ({"logits"} if default else {"explain"})
        assert set(outputs(reply)) == {"explain", "logits"}

    @pytest.mark.parametrize("first", ["input", "target"])
    @pytest.mark.parametrize("raw", ["input", "target"])
    def test_29_json_and_binary_mixed_in_either_order(self, http, first, raw):
        target = np.array([1, 4])
        parts = {
            "input": entry(),
            "target": {"name": "target", "shape": [2], "datatype": "INT64", "data": [1, 4]},
        }
        tail = {"input": X.tobytes(), "target": target.tobytes()}[raw]
        del parts[raw]["data"]
        parts[raw]["parameters"] = {"binary_data_size": len(tail)}
        order = [parts.pop(first), *parts.values()]
        text = orjson.dumps({"inputs": order})
        reply = http.post(
            EXPLAIN, content=text + tail, headers={"Inference-Header-Content-Length": str(len(text))}
        )
        assert reply.status_code == 200, reply.text
        assert outputs(reply)["target"].tolist() == [1, 4]

    def test_30_raw_request(self, http, direct):
        headers = {"Inference-Header-Content-Length": "0"}
        reply = http.post(INFER, content=X[:1].tobytes(), headers=headers)
        assert np.allclose(outputs(reply)["logits"], direct[:1], atol=1e-6)
        assert reply.headers["content-type"] == "application/octet-stream"
        assert outputs(http.post(EXPLAIN, content=X[:1].tobytes(), headers=headers))["explain"].shape == (
            1,
            1,
            8,
            8,
        )
        refused(http.post(INFER, content=X.tobytes(), headers=headers), 400)
        refused(http.post(INFER, content=b"", headers=headers), 400)

    @pytest.mark.parametrize("length", ["100000", "-1", "ten", "1.5", "", "²"])
    def test_31_header_length(self, http, length):
        given = binary()
        given["headers"]["Inference-Header-Content-Length"] = length.encode()
        refused(http.post(INFER, **given), 400)

    def test_31_header_length_missing(self, http):
        refused(http.post(INFER, content=binary()["content"]), 400)
        given = entry(parameters={"binary_data_size": 512})
        del given["data"]
        assert "missing" in refused(http.post(INFER, json=body(given)), 400)

    @pytest.mark.parametrize(
        "given",
        [
            binary(tail=b"\0"),
            binary(parameters={"binary_data_size": 508}),
            binary(parameters={"binary_data_size": 516}),
            binary(parameters={"binary_data_size": -4}),
            binary(parameters={"binary_data_size": "512"}),
            binary(parameters={"binary_data_size": True}),
            binary(shape=[1, 1, 8, 8]),
            binary(data=[0.0]),
        ],
        ids=range(8),
    )
    def test_32_sizes(self, http, given):
        refused(http.post(INFER, **given), 400)

    @pytest.mark.parametrize(
        ("datatype", "raw"), [("BOOL", b"\x02"), ("BYTES", struct.pack("<I", 99) + b"a"), ("BYTES", b"\x01")]
    )
    def test_33_elements_of_bytes_and_bool(self, http, datatype, raw):
        given = {
            "name": "input",
            "shape": [1],
            "datatype": datatype,
            "parameters": {"binary_data_size": len(raw)},
        }
        text = orjson.dumps({"inputs": [given]})
        reply = http.post(
            INFER, content=text + raw, headers={"Inference-Header-Content-Length": str(len(text))}
        )
        assert "has shape" not in refused(reply, 400)

    @pytest.mark.parametrize("flag", ["yes", 1])
    def test_flags_are_booleans(self, http, flag):
        refused(http.post(INFER, json=body(parameters={"binary_data_output": flag})), 400)
        refused(
            http.post(INFER, json=body(outputs=[{"name": "logits", "parameters": {"binary_data": flag}}])),
            400,
        )


class TestExplain:
    def test_51_outputs_parameters_and_repetition(self, http):
        reply, again = http.post(EXPLAIN, json=body(id="a")), http.post(EXPLAIN, json=body(id="a"))
        found = outputs(reply)
        assert list(found) == ["explain", "logits", "target", "completeness_error"]
        assert found["explain"].shape == X.shape
        assert np.array_equal(found["logits"], outputs(http.post(INFER, json=body()))["logits"])
        assert reply.content == again.content
        assert set(reply.json()["parameters"]) == {
            "method",
            "baseline",
            "steps",
            "seed",
            "gradient_ste",
            "explainer_sha256",
            "model_sha256",
            "resolution",
            "fidelity",
            "drift_state",
        }

    def test_51_the_digests_are_the_manifests(self, service):
        parameters = service.http.post(EXPLAIN, json=body(parameters={"seed": 5})).json()["parameters"]
        manifest = service.engine.repository.slot("tiny").model.manifest
        assert parameters["model_sha256"] == manifest.manifest_sha256
        assert parameters["explainer_sha256"] == manifest.files["explain.input_x_gradient.onnx"].sha256
        assert parameters["seed"] == 5

    def test_a_method_without_completeness_has_no_such_output(self, http):
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
    def test_bad_parameters(self, http, parameters):
        refused(http.post(EXPLAIN, json=body(parameters=parameters)), 400)

    def test_a_target_given_twice_is_refused(self, http):
        target = {"name": "target", "shape": [2], "datatype": "INT64", "data": [0, 1]}
        refused(http.post(EXPLAIN, json=body(entry(), target, parameters={"target": 1})), 400)
        refused(http.post(EXPLAIN, json=body(entry(), target, target)), 400)
        refused(http.post(EXPLAIN, json=body(entry(), target | {"datatype": "INT32"})), 400)
        refused(http.post(EXPLAIN, json=body(entry(), target | {"data": [0, 5]})), 400)

    @pytest.mark.parametrize(
        "path",
        [EXPLAIN, "/v2/models/tiny/versions/10/explain", "/explanations/tiny", "/explanations/tiny/10"],
    )
    def test_53_every_path_gives_the_same_numbers(self, service, path):
        found = outputs(service.http.post(path, json=body()))
        raw = outputs(service.http.post(path, **binary(head={"parameters": {"binary_data_output": True}})))
        direct = service.engine.explain(X)
        assert np.array_equal(found["explain"], direct.map)
        assert np.array_equal(raw["explain"], direct.map)

    def test_a_model_without_explainers_is_501(self, tmp_path):
        from clearweight.service import EngineOptions
        from tests.service.conftest import open_service

        artifacts.write(tmp_path, explainers=())
        for service in open_service(tmp_path, EngineOptions()):
            refused(service.http.post(EXPLAIN, json=body()), 501)
            assert service.http.post(INFER, json=body()).status_code == 200

    def test_a_non_finite_output_is_an_error_in_json_and_a_value_in_binary(self, http):
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


def test_the_service_under_test_is_the_engine(service):
    assert isinstance(service.engine, Engine)
