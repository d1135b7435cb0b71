"""The admin port of a real server: off by default, for administrators only, beside gRPC's own verbs."""

import grpc
import httpx
import pytest

from clearweight.service import LoadError
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from clearweight.service.settings import Settings
from tests.service.conftest import start_server, stop_server
from tests.service.rest.messages import refused
from tests.service.rpc.test_oip import fails

USER, ADMIN = "user-token-0123456789", "admin-token-0123456789"
INDEX = "/v2/repository/index"
VERBS = (INDEX, "/v2/repository/models/tiny/load", "/v2/repository/models/tiny/unload")


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def grpc_index(server, token=""):
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        return stub.RepositoryIndex(oip.RepositoryIndexRequest(), metadata=metadata, timeout=10)


@pytest.fixture(scope="module")
def guarded(models):
    server = start_server(models, admin_port=0, tokens=USER, admin_tokens=ADMIN)
    yield server
    stop_server(server)


def test_off_by_default(server):
    assert server.admin_port is None
    for path in VERBS:
        refused(httpx.post(server.url + path), 404)
    assert "model_repository" not in httpx.get(f"{server.url}/v2").json()["extensions"]
    fails(lambda: grpc_index(server, ADMIN), grpc.StatusCode.PERMISSION_DENIED)


@pytest.mark.parametrize(("token", "status"), [("", 401), (USER, 403), ("wrong-token-0123456789", 401)])
@pytest.mark.parametrize("path", [*VERBS, "/v2", "/anything"])
def test_only_an_administrator_is_answered(guarded, token, status, path):
    admin = f"http://127.0.0.1:{guarded.admin_port}"
    refused(httpx.post(admin + path, headers=bearer(token)), status)


def test_an_administrator_sees_loads_and_unloads(guarded):
    admin, headers = f"http://127.0.0.1:{guarded.admin_port}", bearer(ADMIN)
    listed = httpx.post(admin + INDEX, headers=headers)
    assert {entry["name"] for entry in listed.json()} == {"tiny"}
    assert listed.headers["x-request-id"]
    assert listed.headers["cache-control"] == "no-store"

    assert httpx.post(f"{admin}/v2/repository/models/tiny/unload", headers=headers).status_code == 200
    refused(httpx.get(f"{guarded.url}/v2/models/tiny/ready", headers=bearer(USER)), 503)
    assert httpx.post(f"{admin}/v2/repository/models/tiny/load", headers=headers).status_code == 200
    assert httpx.get(f"{guarded.url}/v2/models/tiny/ready", headers=bearer(USER)).status_code == 200


def test_the_public_port_has_none_of_it_even_for_an_administrator(guarded):
    for path in VERBS:
        refused(httpx.post(guarded.url + path, headers=bearer(ADMIN)), 404)
    for path in ("/v2/models/tiny/drift/worst", "/web/canaries/tiny"):
        refused(httpx.get(guarded.url + path, headers=bearer(ADMIN)), 404)


def test_grpc_has_the_same_verbs_for_administrators_only(guarded):
    assert grpc_index(guarded, ADMIN).models
    fails(lambda: grpc_index(guarded), grpc.StatusCode.UNAUTHENTICATED)
    fails(lambda: grpc_index(guarded, USER), grpc.StatusCode.PERMISSION_DENIED)
    extensions = httpx.get(f"{guarded.url}/v2", headers=bearer(USER)).json()["extensions"]
    assert "model_repository" in extensions


def test_without_a_token_only_on_loopback_only_when_asked_for_and_never_for_a_browser(models):
    server = start_server(models, admin_port=0, admin_without_token=True)
    admin = f"http://127.0.0.1:{server.admin_port}"
    assert httpx.post(admin + INDEX).status_code == 200
    refused(httpx.post(admin + INDEX, headers={"Origin": "http://127.0.0.1"}), 403)
    # A foreign name that was made to lead here, which a browser takes for the page's own origin.
    for host, status in (("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("localhost:9", 200)):
        assert httpx.get(f"{admin}/web/canaries/tiny", headers={"Host": host}).status_code == status
    fails(lambda: grpc_index(server), grpc.StatusCode.UNAUTHENTICATED)
    stop_server(server)


@pytest.mark.parametrize("unsafe", [{}, {"admin_host": "0.0.0.0", "admin_without_token": True}])
def test_an_admin_port_open_to_others_does_not_start(tmp_path, unsafe):
    settings = Settings(models=tmp_path, admin_port=0, **unsafe)
    with pytest.raises(LoadError, match="admin_tokens"):
        settings.admin_access(settings.access())
