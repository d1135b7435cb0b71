"""Drift against a reference that another service holds: two services, one without any reference of its own."""

import shutil
import time

import numpy as np
import pytest

from clearweight.service import Engine, EngineOptions
from clearweight.service.drift.remote import RemoteReference
from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A model folder as a device has it: no reference beside the artifact."""
    out = tmp_path_factory.mktemp("device")
    artifacts.write(out, version="1")
    return out


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    """A service that serves the reference under the same name and version."""
    out = tmp_path_factory.mktemp("centre")
    written = artifacts.write(out, version="1", variant="reference")
    shutil.move(written, out / "tiny" / "1") if written.name != "1" else None
    server = start_server(out / "tiny" / "1")
    yield server
    stop_server(server)


def options(url, **settings):
    return EngineOptions(
        shadow=1.0, shadow_cpu_share=1.0, shadow_queue=4096, reference=RemoteOptions(url, **settings)
    )


def test_scores_against_the_remote_reference_are_those_of_the_local_one(device, centre, models, caplog):
    x = artifacts.inputs(64)
    with Engine(device, options(centre.url)) as engine:
        engine.predict(x)
        engine.drain_shadow()
        remote = engine.health("tiny").drift
    with Engine(models / "tiny" / "10", EngineOptions(shadow=1.0, shadow_cpu_share=1.0)) as engine:
        engine.predict(x)
        engine.drain_shadow()
        local = engine.health("tiny").drift

    assert (remote.source, remote.compared) == ("remote", 64)
    for metric in ("cosine", "pooled_cosine", "disagreement"):
        assert remote.window[metric].mean == pytest.approx(local.window[metric].mean, rel=1e-4)
    assert f"is sent to {centre.url}" in caplog.text


def test_drift_is_found_remotely(device, centre):
    with Engine(device, options(centre.url)) as engine:
        engine.drain_shadow()
        engine.predict(artifacts.corrupted(400))
        engine.drain_shadow()
        assert engine.health("tiny").drift.state == "alarm"
        assert engine.explain(artifacts.inputs(1)).parameters["drift_state"] == "alarm"


def test_a_service_that_is_gone_costs_comparisons_and_no_request(device, caplog):
    server = start_server(device)
    stop_server(server)
    counted = []
    from clearweight.service.core.observer import Observer

    class Counting(Observer):
        def skipped(self, model, reason, rows):
            counted.append((reason, rows))

    with Engine(device, options(server.url), observer=Counting()) as engine:
        started = time.perf_counter()
        for _ in range(5):
            engine.predict(artifacts.inputs(4))
        assert time.perf_counter() - started < 5.0
        engine.drain_shadow()
        report = engine.health("tiny").drift

    assert (report.compared, report.dropped) == (0, 20)
    assert counted == [("unreachable", 4)] * 5
    assert caplog.text.count("The remote reference does not answer") == 1


def test_another_model_is_not_taken_for_the_reference(device):
    server = start_server(device)  # the compressed model itself
    try:
        with Engine(device, options(server.url)) as engine:
            engine.predict(artifacts.inputs(4))
            engine.drain_shadow()
            assert engine.health("tiny").drift.compared == 0
    finally:
        stop_server(server)


def test_what_comes_back_is_map_and_logits_of_the_asked_classes(centre):
    x, target = artifacts.inputs(5), np.array([0, 1, 2, 3, 4])
    reference = RemoteReference(RemoteOptions(centre.url), "tiny", "1", "logits")
    net = artifacts.network()

    maps, logits = reference.explain({"input": x}, target)
    assert np.allclose(logits, net.logits(x), atol=1e-4)
    assert np.allclose(maps, net.explain(x, target, artifacts.METHODS[0]), atol=1e-4)

    with pytest.raises(RemoteReferenceError, match="404"):
        RemoteReference(RemoteOptions(centre.url), "tiny", "7", "logits").explain({"input": x}, target)
    reference.close()


@pytest.mark.parametrize("url", ["", "centre:8080", "ftp://centre", "http://centre/v2"])
def test_a_url_is_scheme_and_host(url):
    with pytest.raises(ValueError, match="expected http"):
        RemoteOptions(url)
