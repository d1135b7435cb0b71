"""Every choice of an explanation, over every transport: the answer is the engine's, and it says how it came about."""

from collections.abc import Iterator

import grpc
import numpy as np
import orjson
import pytest

from clearweight.service import EngineOptions
from clearweight.service.core.types import Limits
from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import explain_pb2_grpc as pb_grpc
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service import artifacts
from tests.service.conftest import Service, open_channel, open_service
from tests.service.rest.messages import binary, body, entry, outputs, refused
from tests.service.rpc.test_oip import fails, raw_outputs

EXPLAIN = "/v2/models/tiny/explain"
X = artifacts.inputs(2)
BASELINE = artifacts.inputs(1, seed=9)
ECHOED = (
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
)
# Parameters of a request; a baseline of the caller's own comes as a tensor beside them.
CHOICES = [
    {"method": "probe_path"},
    {"method": "probe_path", "steps": 3, "baseline": "black"},
    {"method": "probe_noise", "steps": 4, "seed": 11},
    {"method": "probe_masks", "seed": 2**63 - 1},
    {"method": "gradient", "target": 3, "seed": 1},
]


@pytest.fixture(scope="module")
def probes(tmp_path_factory) -> Iterator[Service]:
    folder = artifacts.write(
        tmp_path_factory.mktemp("probes"), probes=tuple(artifacts.PROBES), calibration=20
    )
    yield from open_service(folder, EngineOptions(limits=Limits(200_000, 20_000, explain_rows=40)))


@pytest.fixture(scope="module")
def calls(probes):
    with open_channel(probes) as channel:
        yield channel


@pytest.fixture
def direct(probes):
    return probes.engine.explain


def own_baseline():
    return entry(BASELINE, name="baseline")


@pytest.mark.parametrize("asked", CHOICES)
@pytest.mark.parametrize("form", ["json", "binary"])
def test_rest_carries_every_choice(probes, direct, asked, form):
    reply = (
        probes.http.post(EXPLAIN, json=body(entry(X), parameters=asked))
        if form == "json"
        else probes.http.post(EXPLAIN, **binary(X, head={"parameters": asked | {"binary_data_output": True}}))
    )
    found, length = direct(X, **asked), reply.headers.get("Inference-Header-Content-Length")

    assert np.array_equal(outputs(reply)["explain"], found.map)
    head = orjson.loads(reply.content[: int(length)] if length else reply.content)
    assert head["parameters"] == found.parameters
    assert tuple(head["parameters"]) == ECHOED
    assert [item["name"] for item in head["outputs"]] == ["explain", "logits", "target"]


def test_rest_takes_a_baseline_as_a_tensor(probes, direct):
    reply = probes.http.post(
        EXPLAIN, json=body(entry(X), own_baseline(), parameters={"method": "probe_path"})
    )

    assert np.array_equal(outputs(reply)["explain"], direct(X, method="probe_path", baseline=BASELINE).map)
    assert reply.json()["parameters"]["baseline"] == "input"


@pytest.mark.parametrize(
    ("parameters", "tensors", "status", "text"),
    [
        (
            {"method": "probe_path", "steps": 21},
            [],
            413,
            "2 rows x 21 steps = 42 rows, the limit of one request is 40",
        ),
        ({"method": "probe_path", "steps": 1.5}, [], 400, "'steps' is 1.5"),
        ({"method": "probe_path", "steps": True}, [], 400, "'steps' is True"),
        ({"method": "probe_baseline", "steps": 7}, [], 400, "6 fixed steps"),
        ({"method": "probe_path", "baseline": "zero"}, [own_baseline()], 400, "not both"),
        ({"method": "probe_path"}, [own_baseline()] * 2, 400, "'baseline' is given twice"),
        ({"method": "gradient"}, [own_baseline()], 400, "takes no input 'baseline'"),
        (
            {"method": "probe_path"},
            [entry(X[:1, :, :4], name="baseline")],
            400,
            "'baseline' has shape [1, 1, 4, 8]",
        ),
    ],
)
def test_rest_refuses_with_the_reason(probes, parameters, tensors, status, text):
    reply = probes.http.post(EXPLAIN, json=body(entry(X), *tensors, parameters=parameters))

    assert text in refused(reply, status)


def test_predict_takes_no_baseline(probes):
    reply = probes.http.post("/v2/models/tiny/infer", json=body(entry(X), own_baseline()))

    assert "Unknown input 'baseline'" in refused(reply, 400)


@pytest.mark.parametrize("asked", CHOICES)
def test_v1_carries_every_choice(probes, direct, asked):
    reply = probes.http.post(
        "/v1/models/tiny:explain", json={"instances": X.tolist(), "parameters": asked}
    ).json()

    assert np.array_equal(np.array(reply["explanations"], np.float32), direct(X, **asked).map)


@pytest.mark.parametrize("rows", [1, 2])
def test_v1_takes_a_baseline_and_a_class_per_row_beside_the_instances(probes, direct, rows):
    baseline, target = artifacts.inputs(rows, seed=9), [4, -1]
    asked = {"method": "probe_path", "baseline": baseline}
    path = "/v1/models/tiny:explain"

    found = probes.http.post(
        path,
        json={"instances": X.tolist(), "baseline": baseline.tolist(), "parameters": {"method": "probe_path"}},
    ).json()
    chosen = probes.http.post(
        path, json={"inputs": X.tolist(), "target": target, "parameters": {"method": "gradient"}}
    ).json()

    assert np.array_equal(np.array(found["explanations"], np.float32), direct(X, **asked).map)
    expected = direct(X, method="gradient", target=np.array(target)).map
    assert np.array_equal(np.array(chosen["explanations"], np.float32), expected)
    for bad in ({"baseline": []}, {"baseline": 3}, {"target": "a"}, {"target": [[0], [1]]}, {"target": [0]}):
        refused(probes.http.post(path, json={"instances": X.tolist(), **bad}), 400)


@pytest.mark.parametrize("asked", CHOICES)
def test_model_infer_carries_every_choice(calls, direct, asked):
    message = oip.ModelInferRequest(model_name="tiny")
    message.inputs.add(name="input", datatype="FP32", shape=X.shape)
    message.raw_input_contents.append(X.tobytes())
    message.parameters["explain"].bool_param = True
    for key, value in asked.items():
        setattr(message.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)

    reply, found = oip_grpc.GRPCInferenceServiceStub(calls).ModelInfer(message), direct(X, **asked)

    assert np.array_equal(raw_outputs(reply)["explain"], found.map)
    assert set(reply.parameters) == set(ECHOED)
    for key, value in found.parameters.items():
        held = reply.parameters[key]
        assert getattr(held, held.WhichOneof("parameter_choice")) == value


def tensor(name, values):
    return pb.Tensor(name=name, datatype="FP32", shape=values.shape, raw=values.tobytes())


@pytest.mark.parametrize("asked", CHOICES)
def test_the_typed_service_carries_every_choice(calls, direct, asked):
    given = {**asked, "target": [asked["target"]]} if "target" in asked else asked
    reply = pb_grpc.ExplainServiceStub(calls).Explain(
        pb.ExplainRequest(model="tiny", inputs=[tensor("input", X)], **given)
    )
    found = direct(X, **asked)

    assert reply.outputs[0].raw == found.map.tobytes()
    for key in ECHOED:
        assert getattr(reply, key) == found.parameters[key]


def test_the_typed_service_takes_a_baseline_as_a_tensor_and_limits_the_cost(calls, direct):
    stub = pb_grpc.ExplainServiceStub(calls)
    given = {
        "model": "tiny",
        "method": "probe_path",
        "inputs": [tensor("input", X), tensor("baseline", BASELINE)],
    }

    reply = stub.Explain(pb.ExplainRequest(**given))

    assert reply.baseline == "input"
    assert reply.outputs[0].raw == direct(X, method="probe_path", baseline=BASELINE).map.tobytes()
    text = fails(
        lambda: stub.Explain(pb.ExplainRequest(**given, steps=21)), grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert "at most 20 steps for 2 rows" in text


def test_metadata_of_the_explainers_are_the_same_over_both(probes, calls):
    stub = oip_grpc.GRPCInferenceServiceStub(calls)

    rest = probes.http.get("/v2/models/tiny").json()["properties"]

    assert dict(stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny")).properties) == rest
    assert orjson.loads(rest["explainer.probe_path"])["baselines"] == ["zero", "black", "input"]
