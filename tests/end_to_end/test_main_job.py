"""The main job from outside: export, look, check, serve, call; every way gives the same answer."""

import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from clearweight.cli.served import rest, rpc, serving
from clearweight.service import Engine, EngineOptions


def clearweight(*arguments):
    command = [sys.executable, "-m", "clearweight.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_inspect_and_verify_accept_what_export_wrote(models):
    for verb in ("inspect", "verify"):
        found = clearweight(verb, models, "--json")

        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)[0]["name"] == "digits"


@pytest.fixture(scope="module")
def server(models):
    with serving(models, shadow="1", shadow_cpu_share="1") as running:
        yield running


@pytest.mark.parametrize("count", [1, 7])
def test_rest_grpc_and_engine_give_the_same_numbers(server, models, exported, count):
    inputs = exported.prepared.test.inputs[:count]
    with Engine(models) as engine:
        logits = engine.predict(inputs).logits
        explanation = engine.explain(inputs)

    for way in (rest, rpc):
        assert np.array_equal(way(server, "digits", "infer", inputs)["logits"], logits)
        found = way(server, "digits", "explain", inputs)
        assert np.array_equal(found["explain"], explanation.map)
        assert np.array_equal(found["logits"], explanation.logits)
        assert np.array_equal(found["target"], explanation.target)


def test_the_served_map_is_torchs_own_input_x_gradient(server, exported):
    """Over training, packing, graph differentiation, service and network: the map is still the module's."""
    from clearweight.exporter.oracle import oracle

    prepared = exported.prepared
    inputs = prepared.test.inputs[:5]
    found = rest(server, "digits", "explain", inputs)
    x = prepared.inputs(prepared.test[:5]).numpy()

    own = exported.compressed
    by_torch = oracle(own.plain, own.graphs["input_x_gradient"], own.predict)
    assert by_torch is not None
    expected = by_torch(x, found["target"], {})

    assert np.allclose(found["explain"], expected, atol=1e-4 * np.abs(expected).max())


def test_the_reply_carries_what_an_alarm_needs_to_mean_something(server, exported):
    body = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "datatype": "UINT8",
                    "shape": [1, 1, 8, 8],
                    "data": exported.prepared.test.inputs[0].ravel().tolist(),
                }
            ]
        }
    ).encode()
    with urllib.request.urlopen(f"{server.url}/v2/models/digits/explain", body) as reply:
        parameters = json.loads(reply.read())["parameters"]

    assert parameters["fidelity"] == "passed"
    assert parameters["method"] == "input_x_gradient"
    assert parameters["drift_state"] != "disabled"
    assert parameters["gradient_ste"] is False


def watched(models, images):
    """Run `images` one by one through a shadowed engine; every comparison is waited for."""
    options = EngineOptions(shadow=1.0, shadow_cpu_share=1.0, shadow_queue=10_000)
    with Engine(models, options) as engine:
        for image in images:
            engine.explain(image[None])
            engine.drain_shadow()
        return engine.health("digits").drift


def test_clean_traffic_stays_silent(models, exported):
    report = watched(models, exported.prepared.test.inputs[:150])

    assert report.compared == 150
    assert report.state in ("collecting", "normal", "warning")
    assert not any(series.alarms for series in report.series)


CORRUPTIONS = {
    "inverted": lambda images: 16 - images,
    "almost dark": lambda images: images // 6,
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corrupted_traffic_raises_the_alarm(models, exported, corruption):
    images = CORRUPTIONS[corruption](exported.prepared.test.inputs)

    report = watched(models, images)

    assert report.compared == len(images)
    assert report.state == "alarm"
    assert any(series.alarms for series in report.series)


@pytest.mark.parametrize("name", ["weights.cwt", "predict.onnx", "explain.gradcam.onnx", "manifest.json"])
def test_verify_fails_after_one_changed_byte(models, tmp_path, name):
    import shutil

    copy = shutil.copytree(models, tmp_path / "models")
    path = copy / "digits" / "1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)

    found = clearweight("verify", copy)

    assert found.returncode == 1
    assert "FAILED" in found.stdout
    assert "Traceback" not in found.stdout + found.stderr
