"""The model repository extension, mounted where nothing else is, and over gRPC."""

import grpc
import pytest
from starlette.applications import Starlette

from clearweight.service import EngineOptions
from clearweight.service.access import Access, TokenSet
from clearweight.service.rest import repository_routes
from clearweight.service.rpc import Edge
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service import artifacts
from tests.service.conftest import Client, open_service

ADMIN = "admin-token-0123456789"
BEARER = (("authorization", f"Bearer {ADMIN}"),)
INDEX = "/v2/repository/index"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def opened(tmp_path):
    for name in ("first", "second"):
        artifacts.write(tmp_path, name=name, calibration=20)
    yield from open_service(tmp_path, EngineOptions())


@pytest.fixture
def http(opened):
    return Client(Starlette(routes=repository_routes(opened.engine)))


def states(reply):
    assert reply.status_code == 200, reply.text
    return {entry["name"]: entry["state"] for entry in reply.json()}


@pytest.mark.parametrize(
    "asked",
    [{}, {"json": {}}, {"content": b" "}, {"content": b"{}", "headers": FORM}, {"json": {"ready": False}}],
)
def test_index_takes_any_body(http, asked):
    assert states(http.post(INDEX, **asked)) == {"first": "READY", "second": "READY"}


@pytest.mark.parametrize("asked", [{"content": b"{"}, {"json": []}, {"json": {"ready": 1}}])
def test_index_refuses_what_it_cannot_read(http, asked):
    assert http.post(INDEX, **asked).status_code == 400


def test_unload_and_load(http, opened):
    assert (
        http.post(
            "/v2/repository/models/first/unload", json={"parameters": {"unload_dependents": True}}
        ).json()
        == {}
    )
    assert states(http.post(INDEX, json={}))["first"] == "UNAVAILABLE"
    assert states(http.post(INDEX, json={"ready": True})) == {"second": "READY"}
    assert all(entry["reason"] for entry in http.post(INDEX).json() if entry["state"] != "READY")

    assert http.post("/v2/repository/models/first/load").json() == {}
    assert states(http.post(INDEX)) == {"first": "READY", "second": "READY"}
    assert opened.engine.predict(artifacts.inputs(1), model="first").logits.shape == (1, 5)


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("other/load", {}, 404),
        ("other/unload", {}, 404),
        ("%2E%2E%2Fother/load", {}, 400),
        ("%2Fetc/load", {}, 400),
        (".../unload", {}, 400),
        ("first/load", {"config": "{}"}, 400),
        ("first/load", {"file:1/predict.onnx": ""}, 400),
        ("first/load", {"a": []}, 400),
        ("first/unload", {"unload_dependents": "yes"}, 400),
    ],
)
def test_refusals(http, path, parameters, status):
    reply = http.post(f"/v2/repository/models/{path}", json={"parameters": parameters})

    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}


@pytest.mark.parametrize("asked", ["first", "%2E%2E"])
def test_a_body_above_the_limit_is_refused(http, asked):
    assert http.post(f"/v2/repository/models/{asked}/load", content=b" " * 2_000_000).status_code in (
        400,
        413,
    )


def test_the_same_over_grpc(opened):
    from tests.service.conftest import open_channel
    from tests.service.rpc.test_oip import fails

    edge = Edge(Access(admin=TokenSet(ADMIN)), admin=True)
    with open_channel(opened, edge) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="first"), metadata=BEARER)
        index = stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=BEARER).models
        assert [(found.name, found.state) for found in index] == [
            ("first", "UNAVAILABLE"),
            ("second", "READY"),
        ]
        assert index[0].reason
        ready = stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True), metadata=BEARER).models
        assert [found.name for found in ready] == ["second"]
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="first"), metadata=BEARER)
        assert stub.ModelReady(oip.ModelReadyRequest(name="first")).ready
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        fails(
            lambda: stub.RepositoryModelLoad(
                oip.RepositoryModelLoadRequest(model_name=".."), metadata=BEARER
            ),
            invalid,
        )
        inline = oip.RepositoryModelLoadRequest(model_name="first")
        inline.parameters["config"].string_param = "{}"
        fails(lambda: stub.RepositoryModelLoad(inline, metadata=BEARER), invalid)
        missing = oip.RepositoryModelUnloadRequest(model_name="other")
        fails(lambda: stub.RepositoryModelUnload(missing, metadata=BEARER), grpc.StatusCode.NOT_FOUND)
