"""Rows 41 to 50: gRPC, tritonclient, and all transports side by side."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from tests.conformance.messages import (
    BINARY_OUT,
    binary,
    body,
    fails,
    given,
    message,
    raw_outputs,
    refused,
    same,
    tensor,
    values,
)
from tests.conformance.target import Target

SESSION = Path(__file__).with_name("tritonclient_session.py")
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
INFERENCE = "inference.GRPCInferenceService"


def agreement(t: Target) -> None:
    assert t.stub.ServerLive(oip.ServerLiveRequest()).live
    assert t.stub.ServerReady(oip.ServerReadyRequest()).ready
    assert t.stub.ModelReady(oip.ModelReadyRequest(name=t.model)).ready
    server, rest = t.stub.ServerMetadata(oip.ServerMetadataRequest()), t.http.get("/v2").json()
    assert (server.name, server.version) == (rest["name"], rest["version"])
    assert list(server.extensions) == rest["extensions"]
    found, rest = t.stub.ModelMetadata(oip.ModelMetadataRequest(name=t.model)), t.http.get(t.path).json()
    assert (found.name, list(found.versions), found.platform) == (
        rest["name"],
        rest.get("versions") or [],  # it may be left out
        rest["platform"],
    )
    for ours, theirs in ((found.inputs, rest["inputs"]), (found.outputs, rest["outputs"])):
        assert [{"name": e.name, "datatype": e.datatype, "shape": list(e.shape)} for e in ours] == [
            {key: entry[key] for key in ("name", "datatype", "shape")} for entry in theirs
        ]


def unknown_models(t: Target) -> None:
    fails(lambda: t.stub.ModelReady(oip.ModelReadyRequest(name="other")), NOT_FOUND)
    fails(lambda: t.stub.ModelMetadata(oip.ModelMetadataRequest(name="other")), NOT_FOUND)


def typed_and_raw(t: Target) -> None:
    raw, typed = t.stub.ModelInfer(message(t)), t.stub.ModelInfer(message(t, raw=False))
    same(raw_outputs(raw)[t.oracle.outputs[0]["name"]], t.oracle(t.x))
    assert not raw.outputs[0].contents.ListFields()
    assert not typed.raw_output_contents
    found = np.array(typed.outputs[0].contents.fp32_contents, np.float32)
    same(found.reshape(list(typed.outputs[0].shape)), t.oracle(t.x))


def raw_sizes(t: Target) -> None:
    whole = t.x.tobytes()
    for raws in ([whole[:-4]], [whole + b"\0" * 4], [whole] * 2, [b""]):
        with given([len(raw) for raw in raws]):
            asked = message(t)
            del asked.raw_input_contents[:]
            asked.raw_input_contents.extend(raws)
            fails(lambda asked=asked: t.stub.ModelInfer(asked), INVALID)


def raw_and_contents(t: Target) -> None:
    asked = message(t)
    asked.inputs[0].contents.fp32_contents.extend(t.x.ravel())
    fails(lambda: t.stub.ModelInfer(asked), INVALID)


def contradictions(t: Target) -> None:
    rows, *rest = t.x.shape
    size = int(np.prod(rest))
    other = oip.ModelInferRequest.InferRequestedOutputTensor(name="other")
    for name, asked in {
        "another rank": message(t, shape=[rows, size]),
        "a zero": message(t, shape=[rows, *rest[:-1], 0]),
        "a negative": message(t, shape=[-rows, *rest]),
        "no shape": message(t, shape=[]),
        "another name": message(t, name="x_"),
        "another datatype": message(t, datatype="FP64"),
        "no datatype of the protocol": message(t, datatype="FLOAT"),
        "FP16 in contents": message(t, datatype="FP16", raw=False),
        "floats for INT32": message(t, datatype="INT32", raw=False),
        "too many elements": message(t, shape=[1, *rest], raw=False),
        "unknown output": message(t, outputs=[other]),
        "no input": oip.ModelInferRequest(model_name=t.model),
    }.items():
        with given(name):
            fails(lambda asked=asked: t.stub.ModelInfer(asked), INVALID)


def versions_parameters_id(t: Target) -> None:
    unknown = message(t)
    unknown.model_name = "other"
    fails(lambda: t.stub.ModelInfer(unknown), NOT_FOUND)
    fails(lambda: t.stub.ModelInfer(message(t, model_version="4711")), NOT_FOUND)
    asked = message(t, id="seven")
    asked.parameters["a"].bool_param = True
    asked.parameters["b"].int64_param = 1
    asked.parameters["c"].string_param = "x"
    asked.parameters["d"].double_param = 0.5
    asked.parameters["e"].uint64_param = 1
    assert t.stub.ModelInfer(asked).id == "seven"


def health(t: Target) -> None:
    stub = health_pb2_grpc.HealthStub(t.channel)
    for name in ("", INFERENCE):
        with given(name):
            found = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
            assert found == health_pb2.HealthCheckResponse.SERVING
    fails(lambda: stub.Check(health_pb2.HealthCheckRequest(service="x")), NOT_FOUND)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    replies = reflection_pb2_grpc.ServerReflectionStub(t.channel).ServerReflectionInfo(iter([asked]))
    listed = {found.name for found in next(replies).list_services_response.service}
    assert {INFERENCE, "grpc.health.v1.Health"} <= listed


def health_on_drain(t: Target) -> None:
    assert t.start is not None
    with t.start(drain_seconds=1.0) as other:
        watch = health_pb2_grpc.HealthStub(other.target.channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=30
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        other.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


def other_servers_methods(t: Target) -> None:
    for method in ("ModelStatistics", "ModelConfig", "SystemSharedMemoryStatus"):
        with given(method):
            call = t.channel.unary_unary(f"/{INFERENCE}/{method}")
            fails(lambda call=call: call(b""), grpc.StatusCode.UNIMPLEMENTED)


def tritonclient(t: Target) -> None:
    _session(t, "infer")


def tritonclient_repository(t: Target) -> None:
    _session(t, "repository")


def _session(t: Target, what: str) -> None:
    settings = {
        "what": what,
        "http": t.url.removeprefix("http://"),
        "admin": (t.admin_url or t.url).removeprefix("http://"),
        "token": t.admin_token,
        "grpc": t.grpc_address,
        "model": t.model,
        "input": t.oracle.inputs[0]["name"],
        "output": t.oracle.outputs[0]["name"],
        "x": t.x.tolist(),
    }
    done = subprocess.run(
        [sys.executable, str(SESSION)],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1:]
    for name, found in json.loads(done.stdout).items():
        with given(name):
            same(np.array(found, np.float32), t.oracle(t.x))


def same_bits(t: Target) -> None:
    name = t.oracle.outputs[0]["name"]
    over_json = values(t, t.http.post(t.infer, json=body(t)))
    over_binary = values(t, t.http.post(t.infer, **binary(t, head=BINARY_OUT)))
    over_grpc = raw_outputs(t.stub.ModelInfer(message(t)))[name]
    assert np.array_equal(over_json, over_binary)
    assert np.array_equal(over_json, over_grpc)


def same_mistakes(t: Target) -> None:
    rows, *rest = t.x.shape
    shape = [rows, int(np.prod(rest))]
    refused(t.http.post(t.infer, json=body(t, tensor(t, shape=shape))), 400)
    refused(t.http.post(t.infer, **binary(t, shape=shape)), 400)
    fails(lambda: t.stub.ModelInfer(message(t, shape=shape)), INVALID)
