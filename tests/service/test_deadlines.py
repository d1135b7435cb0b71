"""Deadlines, and callers that leave, over both transports; what must not be computed is counted in runs."""

import socket
import threading
import time

import grpc
import httpx
import pytest

from clearweight.service import EngineOptions
from clearweight.service.core.lane import LaneOptions
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service import artifacts
from tests.service.conftest import LIMITS, open_channel, open_service, start_server, stop_server
from tests.service.rest.messages import INFER, body


@pytest.fixture
def held(models, monkeypatch):
    """A service whose predict threads are held by a gate, and the number of runs."""
    for service in open_service(models, EngineOptions(limits=LIMITS)):
        gate, runs = hold(service.plane.lanes["predict"], monkeypatch)
        yield service, gate, runs
        gate.set()


def hold(lane, monkeypatch):
    gate, runs, inner = threading.Event(), [], lane.crew.run

    def run(jobs, halt):
        runs.append(len(jobs))
        while not gate.wait(0.002):
            if halt is not None and halt.called:
                raise RuntimeError("terminated")
        return inner(jobs, halt)

    monkeypatch.setattr(lane.crew, "run", run)
    monkeypatch.setattr(lane, "_options", LaneOptions(inline_seconds=0.0))
    return gate, runs


def test_rest_answers_504_at_the_deadline_and_computes_nothing_after_it(held):
    service, gate, runs = held

    started = time.monotonic()
    found = service.http.post(INFER, json=body(), headers={"X-Request-Timeout": "0.2"})

    assert (found.status_code, list(found.json())) == (504, ["error"])
    assert "deadline" in found.json()["error"]
    assert 0.15 < time.monotonic() - started < 10
    gate.set()
    assert service.http.post(INFER, json=body(), headers={"X-Request-Timeout": "30"}).status_code == 200
    assert runs == [1, 1]


@pytest.mark.parametrize("wrong", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_deadline_that_is_none_is_refused(held, wrong):
    service, _, runs = held
    found = service.http.post(INFER, json=body(), headers={"X-Request-Timeout": wrong})

    assert found.status_code == 400
    assert "X-Request-Timeout" in found.json()["error"]
    assert runs == []


def message():
    x = artifacts.inputs(1)
    found = oip.ModelInferRequest(model_name="tiny", raw_input_contents=[x.tobytes()])
    found.inputs.add(name="input", datatype="FP32", shape=x.shape)
    return found


def test_grpc_deadlines_end_the_run_and_what_waits_behind_it(held):
    service, gate, runs = held
    with open_channel(service) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(message(), timeout=0.5) for _ in range(3)]
        codes = {call.exception().code() for call in calls}
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
        until = time.monotonic() + 10
        while service.plane.in_progress["predict"] and time.monotonic() < until:
            time.sleep(0.01)
        begun = sum(runs)
        gate.set()
        stub.ModelInfer(message(), timeout=30)

    assert sum(runs) == begun + 1


def test_a_connection_that_closes_takes_its_waiting_request_with_it(models):
    server = start_server(models, max_delay_ms=1000)
    try:
        text = httpx.Request("POST", "http://x", json=body()).read()
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.http_port)) as raw:
                raw.sendall(head + text)
                time.sleep(0.1)
        assert httpx.post(server.url + INFER, json=body(), timeout=60).status_code == 200
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        assert 'clearweight_requests_rejected_total{reason="cancelled"} 3.0' in lines
        assert 'clearweight_batch_size_sum{verb="predict"} 2.0' in lines  # the rows of the last
        assert any('code="499"' in line and line.endswith(" 3.0") for line in lines)
    finally:
        assert stop_server(server) == 0
