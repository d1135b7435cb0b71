import grpc
import numpy as np
import pytest

from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import explain_pb2_grpc as pb_grpc
from tests.service import artifacts
from tests.service.rpc.test_oip import fails

X = artifacts.inputs(2)


@pytest.fixture
def stub(channel):
    return pb_grpc.ExplainServiceStub(channel)


def request(**rest):
    tensor = pb.Tensor(name="input", datatype="FP32", shape=X.shape, raw=X.tobytes())
    return pb.ExplainRequest(**({"model": "tiny", "inputs": [tensor]} | rest))


def tensors(reply):
    dtypes = {"FP32": "<f4", "INT64": "<i8"}
    return {t.name: np.frombuffer(t.raw, dtypes[t.datatype]).reshape(list(t.shape)) for t in reply.outputs}


def test_a_typed_explanation_equals_the_engines(stub, service):
    reply = stub.Explain(request(id="seven", seed=9))
    direct = service.engine.explain(X)

    found = tensors(reply)
    assert list(found) == ["explain", "logits", "target", "completeness_error"]
    assert np.array_equal(found["explain"], direct.map)
    assert (reply.id, reply.seed, reply.steps, reply.version) == ("seven", 9, 1, "10")
    for name, value in direct.parameters.items():
        if name != "seed":
            assert getattr(reply, name) == value


@pytest.mark.parametrize("target", [[3], [3, 3], [0, -1]])
def test_targets_for_all_rows_or_per_row(stub, service, target):
    found = tensors(stub.Explain(request(target=target, method="gradient", outputs=["explain", "target"])))
    direct = service.engine.explain(X, target=np.array(target * 2)[:2], method="gradient")

    assert list(found) == ["explain", "target"]
    assert np.array_equal(found["target"], direct.target)
    assert np.array_equal(found["explain"], direct.map)


def test_a_stream_answers_in_order_and_ends_at_the_first_failure(stub):
    replies = stub.ExplainStream(
        iter([request(id="a"), request(id="b"), request(model="other"), request(id="c")])
    )

    assert [next(replies).id, next(replies).id] == ["a", "b"]
    fails(lambda: next(replies), grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (request(model="other"), grpc.StatusCode.NOT_FOUND),
        (request(method="lime"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(target=[9]), grpc.StatusCode.INVALID_ARGUMENT),
        (request(target=[1, 2, 3]), grpc.StatusCode.INVALID_ARGUMENT),
        (request(steps=50), grpc.StatusCode.INVALID_ARGUMENT),
        (request(baseline="blur"), grpc.StatusCode.INVALID_ARGUMENT),
        (request(inputs=[]), grpc.StatusCode.INVALID_ARGUMENT),
        (
            request(preprocess=True, inputs=[pb.Tensor(name="input", datatype="INT8", shape=[1], raw=b"a")]),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
    ids=range(8),
)
def test_mistakes_have_their_codes(stub, message, code):
    fails(lambda: stub.Explain(message), code)


def test_the_drift_report_carries_the_numbers_of_rest(stub, http):
    found, rest = stub.Drift(pb.DriftRequest(model="tiny")), http.get("/v2/models/tiny/drift").json()

    assert (found.model, found.version, found.ready) == ("tiny", "10", True)
    assert found.fidelity.state == rest["fidelity"]["state"] == "passed"
    assert found.fidelity.cosine == rest["fidelity"]["record"]["similarity"]["cosine"]["mean"]
    assert not found.fidelity.HasField("retrain_floor")
    assert found.integrity.map_q999 == rest["integrity"]["map_q999"]
    assert found.drift.state == rest["drift"]["state"] == "disabled"
    fails(lambda: stub.Drift(pb.DriftRequest(model="other")), grpc.StatusCode.NOT_FOUND)
