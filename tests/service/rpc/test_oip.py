"""Rows 41 to 50 and 53 over a real channel."""

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clearweight.service.core.datatypes import DATATYPES
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from clearweight.service.rpc.tensors import CONTENTS
from tests.service import artifacts

X = artifacts.inputs(2)


@pytest.fixture
def stub(channel):
    return oip_grpc.GRPCInferenceServiceStub(channel)


def request(x=X, *, raw=True, name="input", datatype="FP32", shape=None, **rest):
    message = oip.ModelInferRequest(model_name="tiny", **rest)
    entry = message.inputs.add(name=name, datatype=datatype, shape=x.shape if shape is None else shape)
    if raw:
        message.raw_input_contents.append(x.tobytes())
    else:
        entry.contents.fp32_contents.extend(x.ravel())
    return message


def fails(call, code):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code, caught.value.details()
    return caught.value.details()


def raw_outputs(reply):
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {
        item.name: np.frombuffer(raw, DATATYPES[item.datatype].dtype).reshape(list(item.shape))
        for item, raw in pairs
    }


def test_41_health_and_metadata_agree_with_rest(stub, http):
    assert stub.ServerLive(oip.ServerLiveRequest()).live
    assert stub.ServerReady(oip.ServerReadyRequest()).ready
    assert stub.ModelReady(oip.ModelReadyRequest(name="tiny", version="9")).ready
    server, rest = stub.ServerMetadata(oip.ServerMetadataRequest()), http.get("/v2").json()
    assert (server.name, server.version, list(server.extensions)) == (
        rest["name"],
        rest["version"],
        rest["extensions"],
    )
    found, rest = (
        stub.ModelMetadata(oip.ModelMetadataRequest(name="tiny")),
        http.get("/v2/models/tiny").json(),
    )
    assert (found.name, list(found.versions), found.platform) == (
        rest["name"],
        rest["versions"],
        rest["platform"],
    )
    for ours, theirs in ((found.inputs, rest["inputs"]), (found.outputs, rest["outputs"])):
        assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in ours] == theirs
    assert dict(found.properties) == rest["properties"]


def test_41_unknown_models_are_not_found_everywhere(stub):
    code = grpc.StatusCode.NOT_FOUND
    fails(lambda: stub.ModelReady(oip.ModelReadyRequest(name="other")), code)
    fails(lambda: stub.ModelReady(oip.ModelReadyRequest(name="tiny", version="1")), code)
    fails(lambda: stub.ModelMetadata(oip.ModelMetadataRequest(name="other")), code)


def test_42_typed_in_typed_out_raw_in_raw_out(stub, service):
    direct = service.engine.predict(X).logits
    raw, typed = stub.ModelInfer(request()), stub.ModelInfer(request(raw=False))

    assert np.array_equal(raw_outputs(raw)["logits"], direct)
    assert not raw.outputs[0].HasField("contents")
    assert not typed.raw_output_contents
    assert np.array_equal(np.array(typed.outputs[0].contents.fp32_contents, np.float32).reshape(2, 5), direct)


@pytest.mark.parametrize("raws", [[b"\0" * 508], [b"\0" * 516], [X.tobytes()] * 2, [b""]])
def test_43_raw_entries_that_do_not_fit(stub, raws):
    message = request()
    del message.raw_input_contents[:]
    message.raw_input_contents.extend(raws)
    fails(lambda: stub.ModelInfer(message), grpc.StatusCode.INVALID_ARGUMENT)


def test_44_raw_together_with_contents(stub):
    message = request()
    message.inputs[0].contents.fp32_contents.append(1.0)
    fails(lambda: stub.ModelInfer(message), grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    "message",
    [
        request(shape=[2, 64]),
        request(shape=[2, 1, 8, 0]),
        request(shape=[-2, 1, 8, 8]),
        request(shape=[]),
        request(name="x"),
        request(datatype="FP64"),
        request(datatype="FLOAT"),
        request(datatype="FP16", raw=False),
        request(datatype="INT32", raw=False),
        request(shape=[1, 1, 8, 8], raw=False),
        request(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="other")]),
        oip.ModelInferRequest(model_name="tiny"),
        request(parameters={"a": oip.InferParameter()}),
        request(parameters={"explain": oip.InferParameter(string_param="yes")}),
    ],
    ids=range(14),
)
def test_45_what_contradicts_the_metadata(stub, message):
    fails(lambda: stub.ModelInfer(message), grpc.StatusCode.INVALID_ARGUMENT)


def test_46_versions_parameters_and_id(stub):
    fails(lambda: stub.ModelInfer(request(model_version="1")), grpc.StatusCode.NOT_FOUND)
    message = request(id="seven", model_version="9")
    message.parameters["a"].bool_param = True
    message.parameters["b"].int64_param = 1
    message.parameters["c"].string_param = "x"
    message.parameters["d"].double_param = 0.5
    message.parameters["e"].uint64_param = 1

    reply = stub.ModelInfer(message)

    assert (reply.id, reply.model_version) == ("seven", "9")


def test_47_health_and_reflection(channel, service):
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", "inference.GRPCInferenceService", "clearweight.v1.ExplainService"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == serving
    fails(lambda: health.Check(health_pb2.HealthCheckRequest(service="x")), grpc.StatusCode.NOT_FOUND)

    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == serving
    service.plane.draining = True
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()

    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
    listed = {found.name for found in next(replies).list_services_response.service}
    assert {
        "inference.GRPCInferenceService",
        "clearweight.v1.ExplainService",
        "grpc.health.v1.Health",
    } <= listed


def test_48_methods_of_other_servers_are_unimplemented(channel):
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelStatistics")
    fails(lambda: call(b""), grpc.StatusCode.UNIMPLEMENTED)


def test_50_the_same_bits_over_every_transport(stub, http):
    from tests.service.rest.messages import EXPLAIN, binary, body, outputs

    over_json = outputs(http.post(EXPLAIN, json=body()))
    over_binary = outputs(http.post(EXPLAIN, **binary(head={"parameters": {"binary_data_output": True}})))
    over_grpc = raw_outputs(
        stub.ModelInfer(request(parameters={"explain": oip.InferParameter(bool_param=True)}))
    )

    assert list(over_json) == list(over_binary) == list(over_grpc)
    for name, values in over_json.items():
        assert np.array_equal(values, over_binary[name])
        assert np.array_equal(values, over_grpc[name])


def test_53_explain_by_parameter(stub, service):
    message = request(parameters={"explain": oip.InferParameter(bool_param=True)})
    message.parameters["method"].string_param = "gradient"
    message.parameters["target"].int64_param = 1
    reply = stub.ModelInfer(message)

    assert np.array_equal(
        raw_outputs(reply)["explain"], service.engine.explain(X, target=1, method="gradient").map
    )
    assert reply.parameters["method"].string_param == "gradient"
    assert reply.parameters["gradient_ste"].WhichOneof("parameter_choice") == "bool_param"
    assert reply.parameters["steps"].int64_param == 1
    message.parameters["explain"].bool_param = False
    assert [item.name for item in stub.ModelInfer(message).outputs] == ["logits"]


def test_a_message_above_the_limit_is_refused(stub):
    message = request()
    message.raw_input_contents[0] = b"\0" * 400_000
    fails(lambda: stub.ModelInfer(message), grpc.StatusCode.RESOURCE_EXHAUSTED)
    huge = request(shape=[2**40, 1, 8, 8])
    fails(lambda: stub.ModelInfer(huge), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_draining_or_failed_service_is_unavailable(stub, service):
    service.plane.draining = True
    fails(lambda: stub.ModelInfer(request()), grpc.StatusCode.UNAVAILABLE)
    assert not stub.ServerReady(oip.ServerReadyRequest()).ready


def test_an_internal_failure_shows_a_reference_only(stub, service, monkeypatch, caplog):
    monkeypatch.setattr(service.plane.lanes["predict"].crew, "run", lambda *_: 1 / 0)

    text = fails(lambda: stub.ModelInfer(request()), grpc.StatusCode.INTERNAL)

    assert text.startswith("Internal error. Reference ")
    assert "ZeroDivisionError" in caplog.text


def test_every_datatype_has_its_typed_field_or_is_raw_only():
    assert set(CONTENTS) == {name for name, kind in DATATYPES.items() if kind.json != "none"}


# (message, field) -> number: the wire format of the Open Inference Protocol, written down by hand.
NUMBERS = {
    "ServerMetadataResponse": {"name": 1, "version": 2, "extensions": 3},
    "ModelReadyRequest": {"name": 1, "version": 2},
    "ModelMetadataResponse": {
        "name": 1,
        "versions": 2,
        "platform": 3,
        "inputs": 4,
        "outputs": 5,
        "properties": 6,
    },
    "ModelInferRequest": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    },
    "ModelInferResponse": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "outputs": 5,
        "raw_output_contents": 6,
    },
    "InferParameter": {
        "bool_param": 1,
        "int64_param": 2,
        "string_param": 3,
        "double_param": 4,
        "uint64_param": 5,
    },
    "InferTensorContents": {
        "bool_contents": 1,
        "int_contents": 2,
        "int64_contents": 3,
        "uint_contents": 4,
        "uint64_contents": 5,
        "fp32_contents": 6,
        "fp64_contents": 7,
        "bytes_contents": 8,
    },
}


@pytest.mark.parametrize("message", NUMBERS)
def test_field_numbers_are_the_protocols(message):
    found = {field.name: field.number for field in oip.DESCRIPTOR.message_types_by_name[message].fields}

    assert found == NUMBERS[message]
    assert oip.DESCRIPTOR.message_types_by_name[message].full_name == f"inference.{message}"
