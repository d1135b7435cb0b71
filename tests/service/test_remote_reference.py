"""Drift against a reference that another service holds: two services, one without any reference of its own."""

import shutil
import socket
import time

import numpy as np
import pytest

from clearweight.service import Engine, EngineOptions
from clearweight.service.drift.remote import reference_at
from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from tests.service import artifacts
from tests.service.certificates import Authority
from tests.service.conftest import start_server, stop_server

SCHEMES = ("http", "grpc")


def url(server, scheme):
    port = server.grpc_port if scheme.startswith("grpc") else server.http_port
    return f"{scheme}://127.0.0.1:{port}"


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


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scores_against_the_remote_reference_are_those_of_the_local_one(
    device, centre, models, caplog, scheme
):
    x = artifacts.inputs(64)
    with Engine(device, options(url(centre, scheme))) as engine:
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
    assert f"is sent to {url(centre, scheme)}" in caplog.text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_drift_is_found_remotely(device, centre, scheme):
    with Engine(device, options(url(centre, scheme))) as engine:
        engine.drain_shadow()
        engine.predict(artifacts.corrupted(400))
        engine.drain_shadow()
        assert engine.health("tiny").drift.state == "alarm"
        assert engine.explain(artifacts.inputs(1)).parameters["drift_state"] == "alarm"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_service_that_is_gone_costs_comparisons_and_no_request(device, caplog, scheme):
    server = start_server(device)
    stop_server(server)
    counted = []
    from clearweight.service.core.observer import Observer

    class Counting(Observer):
        def skipped(self, model, reason, rows):
            counted.append((reason, rows))

    with Engine(device, options(url(server, scheme)), observer=Counting()) as engine:
        started = time.perf_counter()
        for _ in range(5):
            engine.predict(artifacts.inputs(4))
        assert time.perf_counter() - started < 5.0
        engine.drain_shadow()
        report = engine.health("tiny").drift

    assert (report.compared, report.dropped) == (0, 20)
    assert {reason for reason, _ in counted} == {"unreachable"}
    assert sum(rows for _, rows in counted) == 20
    assert caplog.text.count("The remote reference does not answer") == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_model_is_not_taken_for_the_reference(device, scheme):
    server = start_server(device)  # the compressed model itself
    try:
        with Engine(device, options(url(server, scheme))) as engine:
            engine.predict(artifacts.inputs(4))
            engine.drain_shadow()
            assert engine.health("tiny").drift.compared == 0
    finally:
        stop_server(server)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_comes_back_is_map_and_logits_of_the_asked_classes(centre, scheme):
    x, target = artifacts.inputs(5), np.array([0, 1, 2, 3, 4])
    at = RemoteOptions(url(centre, scheme))
    reference = reference_at(at, "tiny", "1", "logits")
    net = artifacts.network()

    maps, logits = reference.explain({"input": x}, target)
    assert np.allclose(logits, net.logits(x), atol=1e-4)
    assert np.allclose(maps, net.explain(x, target, artifacts.METHODS[0]), atol=1e-4)
    reference.close()

    with pytest.raises(RemoteReferenceError, match=r"404|NOT_FOUND"):
        reference_at(at, "tiny", "7", "logits").explain({"input": x}, target)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_service_that_does_not_answer_is_given_up_in_time(device, scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with Engine(device, options(at, timeout_seconds=0.3)) as engine:
            started = time.perf_counter()
            engine.predict(artifacts.inputs(4))
            assert time.perf_counter() - started < 0.25
            engine.drain_shadow()
            assert engine.health("tiny").drift.dropped == 4
            assert time.perf_counter() - started < 5.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_comparing_goes_on_when_the_service_is_back(device, tmp_path, scheme):
    shutil.copytree(artifacts.write(tmp_path, version="1", variant="reference"), tmp_path / "served" / "1")
    first = start_server(tmp_path / "served" / "1")
    ports = {"http_port": first.http_port, "grpc_port": first.grpc_port}
    with Engine(device, options(url(first, scheme))) as engine:
        for answers in (True, False, True):
            if not answers:
                stop_server(first)
            elif first.process.poll() is not None:
                first = start_server(tmp_path / "served" / "1", **ports)
            engine.predict(artifacts.inputs(4))
            engine.drain_shadow()
        report = engine.health("tiny").drift
    stop_server(first)

    assert (report.compared, report.dropped) == (8, 4)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_token_and_mutual_tls_are_shown_to_the_other_side(device, tmp_path, scheme):
    authority = Authority(tmp_path)
    served, own = authority.issue("server"), authority.issue("client")
    (tmp_path / "token").write_text("a-token-of-enough-characters\n")
    written = artifacts.write(tmp_path / "models", version="1", variant="reference")
    server = start_server(
        written,
        tls_cert=str(served[0]),
        tls_key=str(served[1]),
        tls_client_ca=str(authority.path),
        token_file=str(tmp_path / "token"),
    )
    shown = {"ca_file": authority.path, "certificate_file": own[0], "key_file": own[1]}
    try:
        for token, compared in ((tmp_path / "token", 4), (None, 0)):
            with Engine(device, options(url(server, scheme), token_file=token, **shown)) as engine:
                engine.predict(artifacts.inputs(4))
                engine.drain_shadow()
                assert engine.health("tiny").drift.compared == compared
    finally:
        stop_server(server)


@pytest.mark.parametrize("url", ["", "centre:8080", "ftp://centre", "http://centre/v2", "grpc://me@centre:1"])
def test_a_url_is_scheme_and_host(url):
    with pytest.raises(ValueError, match="expected http"):
        RemoteOptions(url)
