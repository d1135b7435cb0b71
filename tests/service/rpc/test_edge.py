"""What every call passes, whatever its method: tokens, ids, codes, its line in the log."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clearweight.service.access import Access, TokenSet
from clearweight.service.rpc import Edge
from clearweight.service.rpc.edge import ADMIN as ADMIN_METHODS
from clearweight.service.rpc.generated import explain_pb2, explain_pb2_grpc
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service.conftest import open_channel, request_lines
from tests.service.rpc.test_oip import X, fails, request

USER, ADMIN = "user-token-0123456789", "admin-token-0123456789"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
INFER = "/inference.GRPCInferenceService/ModelInfer"


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture
def closed(service):
    access = Access(TokenSet(USER), TokenSet(ADMIN), refused=service.metrics.observer.rejected)
    with open_channel(service, Edge(access)) as channel:
        yield channel


def raw(channel, method, message=b"", **settings):
    """Call a method by name with bytes as they are."""
    return channel.unary_unary(method)(message, timeout=30, **settings)


def explain_request():
    message = explain_pb2.ExplainRequest(model="tiny")
    message.inputs.add(name="input", datatype="FP32", shape=X.shape, raw=X.tobytes())
    return message


def test_every_reply_carries_the_calls_id_and_trace_errors_included(channel):
    metadata = (("x-request-id", "order-17"), ("traceparent", PARENT))
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    _, answered = stub.ModelInfer.with_call(request(), metadata=metadata)
    with pytest.raises(grpc.RpcError) as missing:
        stub.ModelMetadata(oip.ModelMetadataRequest(name="x"), metadata=metadata)
    with pytest.raises(grpc.RpcError) as unknown:
        raw(channel, "/no.Such/Method", metadata=metadata)
    stream = explain_pb2_grpc.ExplainServiceStub(channel).ExplainStream(
        iter([explain_request()]), metadata=metadata
    )
    assert len(list(stream)) == 1

    for call in (answered, missing.value, unknown.value, stream):
        found = dict(call.trailing_metadata())
        assert found["x-request-id"] == "order-17"
        assert found["traceparent"].startswith(PARENT[:35])
        assert found["traceparent"] != PARENT
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "metadata", [(), bearer("wrong-token-0123456789"), (("authorization", "Basic eDp5"),)]
)
def test_nothing_answers_without_a_known_token(closed, metadata):
    inference = oip_grpc.GRPCInferenceServiceStub(closed)
    explain = explain_pb2_grpc.ExplainServiceStub(closed)
    reflection = reflection_pb2_grpc.ServerReflectionStub(closed)
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED

    fails(lambda: inference.ModelInfer(request(), metadata=metadata), unauthenticated)
    fails(lambda: inference.ServerMetadata(oip.ServerMetadataRequest(), metadata=metadata), unauthenticated)
    fails(lambda: explain.Explain(explain_request(), metadata=metadata), unauthenticated)
    fails(lambda: list(explain.ExplainStream(iter([explain_request()]), metadata=metadata)), unauthenticated)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    fails(lambda: list(reflection.ServerReflectionInfo(iter([listing]), metadata=metadata)), unauthenticated)
    fails(lambda: raw(closed, "/no.Such/Method", metadata=metadata), unauthenticated)


def test_the_message_of_an_unknown_caller_is_never_parsed(closed, monkeypatch):
    monkeypatch.setattr("clearweight.service.rpc.edge._Call.read", lambda *_: pytest.fail("parsed"))
    fails(lambda: raw(closed, INFER, b"\xff" * 100), grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("token", [USER, ADMIN])
def test_a_known_token_opens_what_users_may(closed, token):
    assert oip_grpc.GRPCInferenceServiceStub(closed).ModelInfer(request(), metadata=bearer(token)).outputs


def test_probes_go_without_a_token_unless_told_otherwise(service, closed):
    health = health_pb2_grpc.HealthStub(closed)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    assert oip_grpc.GRPCInferenceServiceStub(closed).ServerLive(oip.ServerLiveRequest()).live

    with open_channel(service, Edge(Access(TokenSet(USER), anonymous_health=False))) as strict:
        check = health_pb2_grpc.HealthStub(strict).Check
        fails(lambda: check(health_pb2.HealthCheckRequest()), grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize("method", sorted(ADMIN_METHODS))
def test_repository_verbs_are_off_and_even_on_take_an_administrator(service, method):
    tokens = Access(TokenSet(USER), TokenSet(ADMIN))
    denied, unauthenticated = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    with open_channel(service, Edge(tokens)) as off:
        for metadata in ((), bearer(USER), bearer(ADMIN)):
            fails(lambda metadata=metadata: raw(off, method, metadata=metadata), denied)
    with open_channel(service, Edge(tokens, admin=True)) as on:
        fails(lambda: raw(on, method), unauthenticated)
        fails(lambda: raw(on, method, metadata=bearer(USER)), denied)
    with open_channel(service, Edge(Access(), admin=True)) as no_tokens_at_all:
        fails(lambda: raw(no_tokens_at_all, method), unauthenticated)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (INFER, b"\xff\xff\xff\xff"),
        ("/inference.GRPCInferenceService/ServerReady", b"\x0a"),
        ("/clearweight.v1.ExplainService/Explain", b"{}"),
        ("/grpc.health.v1.Health/Check", b"\x08"),
    ],
)
def test_a_malformed_message_is_the_callers_mistake(channel, method, message):
    text = fails(lambda: raw(channel, method, message), grpc.StatusCode.INVALID_ARGUMENT)
    assert method in text


def test_a_malformed_message_in_a_stream_is_too(channel):
    call = channel.stream_stream("/clearweight.v1.ExplainService/ExplainStream")
    fails(lambda: list(call(iter([b"\xff\xff"]), timeout=30)), grpc.StatusCode.INVALID_ARGUMENT)


def test_each_call_is_one_line_without_anything_a_caller_chose(channel, log):
    secret = "patient-4711"
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    asked = request(id=secret)
    answered = stub.ModelInfer(asked, metadata=(("x-request-id", "order-17"), ("x-name", secret)))
    fails(lambda: stub.ModelInfer(oip.ModelInferRequest(model_name=secret)), grpc.StatusCode.NOT_FOUND)
    fails(lambda: raw(channel, f"/{secret}/{secret}"), grpc.StatusCode.UNIMPLEMENTED)

    found = request_lines(log)
    assert [(line["route"], line["status"], line.get("model")) for line in found] == [
        (INFER, "OK", "tiny"),
        (INFER, "NOT_FOUND", None),
        ("unknown", "UNIMPLEMENTED", None),
    ]
    assert (found[0]["request_bytes"], found[0]["response_bytes"]) == (asked.ByteSize(), answered.ByteSize())
    assert found[0]["request_id"] == "order-17"
    assert secret not in log.getvalue()
