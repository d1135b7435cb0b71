"""Row 49: an unmodified tritonclient 2.73 works over HTTP and gRPC, JSON and binary."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clearweight.service import Engine
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server

SCRIPT = Path(__file__).with_name("tritonclient_session.py")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    for version in ("9", "10"):
        artifacts.write(out, version=version)
    server = start_server(out)
    command = [sys.executable, str(SCRIPT), str(server.http_port), str(server.grpc_port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert stop_server(server) == 0
    assert done.returncode == 0, done.stderr
    with Engine(out) as engine:
        x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 1, 8, 8)
        yield json.loads(done.stdout), engine.predict(x).logits, engine.explain(x, method="gradient").map


def test_metadata_is_understood(session):
    found, _, _ = session

    assert found["server"]["name"] == "clearweight"
    assert "binary_tensor_data" in found["server"]["extensions"]
    assert found["model"]["platform"] == "onnx_onnxv1"
    assert found["model"]["versions"] == ["9", "10"]


@pytest.mark.parametrize("form", ["http_json", "http_binary", "grpc"])
def test_predictions_are_the_engines_bits(session, form):
    found, logits, _ = session

    assert [np.array(given, np.float32).tolist() for given in found[form]] == [logits.tolist()] * 2


def test_explain_works_through_a_client_that_never_heard_of_it(session):
    found, _, maps = session

    assert np.array_equal(np.array(found["explain"], np.float32), maps)


def test_errors_arrive_with_their_code(session):
    assert session[0]["unknown"] == "StatusCode.NOT_FOUND"
