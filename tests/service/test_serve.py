"""The real process: ports, lines, signals, exit codes."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import httpx
import pytest

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service import artifacts
from tests.service.conftest import SERVE, start_server, stop_server
from tests.service.rest.messages import INFER, body


def test_ports_are_told_and_both_transports_answer(server):
    assert httpx.get(f"{server.url}/v2/health/ready").json()["ready"]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        assert oip_grpc.GRPCInferenceServiceStub(channel).ServerReady(oip.ServerReadyRequest()).ready
    assert server.models == {"tiny/9": True, "tiny/10": True}


def test_the_printed_curl_lines_work_as_they_stand(server):
    lines = []
    while not lines or not lines[-1].startswith("Stop"):
        lines.append(server.process.stdout.readline())
    calls = [line.strip() for line in lines if "curl" in line]

    assert len(calls) == 6
    for call in calls:
        found = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True).stdout
        assert "error" not in json.loads(found)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_exit_code_0(server, sign):
    httpx.get(f"{server.url}/v2/health/live")
    server.process.send_signal(sign)

    assert server.process.wait(60) == 0


def test_work_in_flight_is_finished_after_the_signal(models):
    server = start_server(models, drain_seconds=1.0)
    codes = []
    ready = []

    def call():
        with httpx.Client() as client:
            while not ready or ready[-1] == 200:
                codes.append(client.post(server.url + INFER, json=body()).status_code)
                ready.append(client.get(f"{server.url}/v2/health/ready").status_code)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    while len(codes) < 20:
        time.sleep(0.01)
    assert stop_server(server) == 0
    for caller in callers:
        caller.join()
    assert ready[-1] == 503
    assert set(codes) == {200}


def test_raw_http_is_read_as_the_protocol_says(server):
    with socket.create_connection(("127.0.0.1", server.http_port)) as raw:
        raw.sendall(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in raw.recv(1000)


def test_a_large_body_is_not_taken_for_a_large_head(server):
    x = artifacts.inputs(100)
    tensor = {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    with httpx.Client() as client:
        codes = [client.post(server.url + INFER, json=body(tensor)).status_code for _ in range(5)]

    assert codes == [200] * 5


def run(directory, **settings):
    given = {"models": str(directory), "http_port": 0, "grpc_port": 0, **settings}
    code = f"{SERVE}serve(Settings(**{given!r}))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_nothing_to_serve_is_an_error(tmp_path):
    assert "NotFoundError" in run(tmp_path).stderr
    broken = artifacts.write(tmp_path)
    (broken / "weights.cwt").unlink()
    assert "LoadError" in run(tmp_path).stderr


def test_a_taken_port_is_named(models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in run(models, http_port=port).stderr


def test_a_model_that_fails_its_tests_is_shown_not_served(tmp_path):
    artifacts.write(tmp_path, share=0.8)
    server = start_server(tmp_path)
    assert server.models == {"tiny/1": False}
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 503
    assert "budget" in httpx.get(f"{server.url}/v2/models/tiny/drift").json()["reason"]
    assert stop_server(server) == 0
