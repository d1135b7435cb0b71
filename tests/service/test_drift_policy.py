"""What happens on a drift alarm, and what outlives the process: over the wire, on a server of its own."""

import json
import signal
import time

import grpc
import httpx
import pytest

from clearweight.service import EngineOptions
from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import explain_pb2_grpc as pb_grpc
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server

SHADOW = {"shadow": 1.0, "shadow_cpu_share": 1.0, "shadow_queue": 4096}


def body(x):
    return {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]
    }


def post(server, verb, x, version=None):
    path = f"/v2/models/tiny{f'/versions/{version}' if version else ''}/{verb}"
    return httpx.post(server.url + path, json=body(x), timeout=60)


def drift(server, version=None):
    path = f"/v2/models/tiny{f'/versions/{version}' if version else ''}/drift"
    return httpx.get(server.url + path, timeout=60).json()["drift"]


def until(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def limits_solved(server, version=None):
    until(lambda: drift(server, version)["power"] is not None)


def alarm(server, version=None):
    """Send corrupted inputs until the charts have seen them all."""
    limits_solved(server, version)
    corrupted = artifacts.corrupted(600)
    for start in range(0, 600, 60):
        post(server, "infer", corrupted[start : start + 60], version)


@pytest.fixture
def serving(models, tmp_path):
    """Start a server over versions 9 and 10, with shadow comparison and what else is asked for."""
    started = []

    def start(**settings):
        started.append(start_server(models, **SHADOW, **settings))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            stop_server(server)


def explain_by_grpc(server):
    x = artifacts.inputs(1)
    tensor = pb.Tensor(name="input", datatype="FP32", shape=x.shape, raw=x.tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return pb_grpc.ExplainServiceStub(channel).Explain(pb.ExplainRequest(model="tiny", inputs=[tensor]))


def test_annotate_serves_on_and_says_so_in_every_explanation(serving):
    server = serving()
    alarm(server)
    until(lambda: drift(server)["state"] == "alarm")

    reply = post(server, "explain", artifacts.inputs(1))
    assert reply.status_code == 200
    assert reply.json()["parameters"]["drift_state"] == "alarm"
    assert explain_by_grpc(server).drift_state == "alarm"


def test_withhold_gives_predictions_and_no_explanations_until_the_alarm_is_over(serving):
    server = serving(on_alarm="annotate", on_alarm_of={"tiny": "withhold_explanation"})
    assert post(server, "explain", artifacts.inputs(1)).status_code == 200
    alarm(server)
    until(lambda: drift(server)["state"] == "alarm")

    refused = post(server, "explain", artifacts.inputs(1))
    assert refused.status_code == 409
    assert "drift_state is 'alarm'" in refused.json()["error"]
    with pytest.raises(grpc.RpcError) as caught:
        explain_by_grpc(server)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert post(server, "infer", artifacts.inputs(1)).status_code == 200

    def quiet():
        post(server, "infer", artifacts.inputs(400, seed=int(time.monotonic() * 1000)))
        return drift(server)["state"] in ("normal", "warning")

    until(quiet)
    assert post(server, "explain", artifacts.inputs(1)).status_code == 200


def test_rollback_goes_back_to_the_version_before(serving):
    server = serving(on_alarm="rollback")
    assert post(server, "infer", artifacts.inputs(1)).json()["model_version"] == "10"
    alarm(server, "10")
    until(lambda: post(server, "infer", artifacts.inputs(1)).json().get("model_version") == "9")

    withdrawn = post(server, "infer", artifacts.inputs(1), version="10")
    assert withdrawn.status_code == 503
    assert "Rolled back to version '9' on a drift alarm" in withdrawn.json()["error"]
    reply = post(server, "explain", artifacts.inputs(1)).json()
    assert reply["model_version"] == "9"
    assert reply["parameters"]["drift_state"] != "alarm"


def test_without_an_older_version_a_rollback_serves_on_and_says_so(models, caplog):
    from clearweight.service import Engine

    options = EngineOptions(**SHADOW, on_alarm="rollback")
    with Engine(models / "tiny" / "10", options) as engine:
        engine.drain_shadow()
        engine.predict(artifacts.corrupted(600))
        engine.drain_shadow()
        assert engine.explain(artifacts.inputs(1)).parameters["drift_state"] == "alarm"
    assert "no older version" in caplog.text


def test_an_unknown_policy_is_refused():
    from clearweight.service import InvalidRequestError

    with pytest.raises(InvalidRequestError, match="withhold_explanation"):
        EngineOptions(on_alarm="panic")


def test_the_charts_survive_kill_9(serving, tmp_path):
    server = serving(state_dir=str(tmp_path / "state"))
    alarm(server)
    until(lambda: drift(server)["state"] == "alarm")
    until(lambda: drift(server)["compared"] == 600)
    time.sleep(2.1)
    post(
        server, "infer", artifacts.inputs(1)
    )  # what came before is on disk by the time that this is compared
    until(lambda: drift(server)["compared"] == 601)
    before = drift(server)
    server.process.send_signal(signal.SIGKILL)
    server.process.communicate(timeout=60)

    again = serving(state_dir=str(tmp_path / "state"))
    after = drift(again)
    assert after["state"] == "alarm"
    assert after["compared"] == before["compared"]
    assert [entry["statistic"] for entry in after["series"]] == [
        entry["statistic"] for entry in before["series"]
    ]
    assert [entry["alarms"] for entry in after["series"]] == [entry["alarms"] for entry in before["series"]]


def test_a_policy_holds_over_a_restart(serving, tmp_path):
    server = serving(state_dir=str(tmp_path))
    alarm(server)
    until(lambda: drift(server)["state"] == "alarm")
    stop_server(server)

    again = serving(state_dir=str(tmp_path), on_alarm="rollback")
    until(lambda: post(again, "infer", artifacts.inputs(1)).json().get("model_version") == "9")


def test_the_state_of_another_artifact_is_ignored(serving, tmp_path):
    (tmp_path / "tiny-10.drift.json").write_text(
        json.dumps({"form": 1, "model_sha256": "0" * 64, "state": {}})
    )

    assert drift(serving(state_dir=str(tmp_path)))["compared"] == 0
