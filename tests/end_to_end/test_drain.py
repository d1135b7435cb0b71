"""A shutdown under load, as its callers see it."""

import asyncio
import socket

import httpx
import pytest

from benchmarks.drain import drained
from benchmarks.served_cnn import write_cnn
from benchmarks.server_process import ports, process, service
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server
from tests.service.rest.messages import INFER, body


def test_nothing_that_was_taken_is_lost_on_either_transport(tmp_path):
    artifact = write_cnn(tmp_path / "models")
    with process(service(artifact, max_delay_ms=5), 0) as server:
        found = asyncio.run(drained(server, ports(server), tmp_path))

    assert found.accepted > 20
    assert (found.lost, found.exit_code) == (0, 0)


@pytest.fixture
def models(tmp_path):
    artifacts.write(tmp_path)
    return tmp_path


def test_a_silent_connection_is_closed_and_does_not_hold_the_shutdown_up(models):
    server = start_server(models, grace_seconds=20)
    with socket.create_connection(("127.0.0.1", server.http_port)) as silent:
        silent.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += silent.recv(1000)
        assert stop_server(server) == 0
        assert silent.recv(1000) == b""


def test_while_leaving_replies_say_that_the_connection_ends(models):
    server = start_server(models, drain_seconds=2)
    with httpx.Client() as client:
        before = client.post(server.url + INFER, json=body())
        server.process.terminate()
        while client.get(f"{server.url}/v2/health/ready").status_code == 200:
            pass
        after = client.post(server.url + INFER, json=body())
    assert stop_server(server) == 0
    assert "connection" not in before.headers
    assert (after.status_code, after.headers["connection"]) == (200, "close")
