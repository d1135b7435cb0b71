import threading
import time

import grpc
import numpy as np
import pytest

from clearweight.service.core.lane import LaneOptions
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


def test_a_stream_answers_in_order_and_a_failure_is_its_requests_alone(stub, service):
    asked = [request(id=str(index), target=[index % 5], method="gradient") for index in range(30)]
    asked[3] = request(id="3", model="other", version="7")
    asked[7] = request(id="7", method="lime")

    found = list(stub.ExplainStream(iter(asked)))

    assert [reply.id for reply in found] == [str(index) for index in range(30)]
    assert [index for index, reply in enumerate(found) if reply.HasField("error")] == [3, 7]
    assert (found[3].model, found[3].version) == ("other", "7")
    assert found[3].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert found[7].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "lime" in found[7].error.message
    direct = service.engine.explain(X, target=2, method="gradient").map
    assert np.array_equal(tensors(found[12])["explain"], direct)


def test_a_stream_does_not_wait_for_its_end_before_it_answers(stub):
    more = threading.Event()

    def asked():
        yield request(id="first")
        assert more.wait(60)
        yield request(id="second")

    replies = stub.ExplainStream(asked())
    assert next(replies).id == "first"
    more.set()
    assert [reply.id for reply in replies] == ["second"]


def test_a_cancelled_stream_computes_no_more(stub, service, monkeypatch):
    served, begun = [], threading.Event()
    lane = service.plane.lanes["explain"]
    work = lane.crew.run

    def slow(jobs, halt):
        served.extend(job.identifier for job in jobs)
        begun.set()
        time.sleep(0.1)
        return work(jobs, halt)

    monkeypatch.setattr(lane.crew, "run", slow)
    monkeypatch.setattr(lane, "_options", LaneOptions(inline_seconds=0.0))  # not where the event loop stands
    replies = stub.ExplainStream(request(id=str(index)) for index in range(200))
    assert begun.wait(60)
    replies.cancel()
    with pytest.raises(grpc.RpcError):
        list(replies)
    time.sleep(0.3)
    settled = len(served)
    time.sleep(0.3)

    assert len(served) == settled < 10


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
