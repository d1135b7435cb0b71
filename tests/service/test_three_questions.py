"""Fidelity, integrity, drift on whole artifacts: each failure is found by its own question."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from clearweight.service import Engine, EngineOptions, UnavailableError
from tests.service import artifacts

SHADOW = EngineOptions(shadow=1.0, shadow_cpu_share=1.0, shadow_queue=4096)


def traffic(engine, x):
    for start in range(0, len(x), 8):
        engine.predict(x[start : start + 8])
    engine.drain_shadow()


def test_an_over_pruned_model_fails_fidelity_although_it_calibrated_itself(tmp_path):
    artifacts.write_pair(tmp_path, share=0.8)

    with pytest.raises(UnavailableError, match="below the budget"):
        Engine(tmp_path)
    with Engine(tmp_path, replace(SHADOW, low_fidelity="annotate")) as engine:
        traffic(engine, artifacts.inputs(400, seed=30))
        health = engine.health("tiny")
        # Its own null is wide, so drift alone would never notice, and it reproduces itself perfectly.
        assert health.drift.state == "normal"
        assert health.integrity.state == "passed"
        assert health.fidelity.state == "failed"
        assert engine.explain(artifacts.inputs(1)).parameters["fidelity"] == "failed"


def test_one_changed_weight_in_a_valid_file_fails_integrity(tmp_path):
    changed = artifacts.pruned(artifacts.network(), 0.2)
    changed.w1[3, 27] += 0.05
    artifacts.write(tmp_path, stored=changed)

    with pytest.raises(UnavailableError, match="Integrity"):
        Engine(tmp_path)
    with Engine(tmp_path, strict=False) as engine:
        health = engine.health("tiny")
        assert health.integrity.state == "failed"
        assert health.fidelity.state == "passed"
        assert health.integrity.logits_error > health.integrity.limit.logits_atol


def test_corrupted_inputs_raise_drift_and_clean_ones_do_not(models):
    with Engine(models / "tiny" / "10", SHADOW) as engine:
        traffic(engine, artifacts.inputs(1500, seed=30))
        assert engine.health("tiny").drift.state == "normal"
        assert engine.health("tiny").drift.series[0].alarms == 0

        traffic(engine, artifacts.corrupted(600))
        report = engine.health("tiny").drift
        assert report.state == "alarm"
        assert report.compared == 2100
        assert engine.explain(artifacts.inputs(1)).parameters["drift_state"] == "alarm"


def test_the_scheduled_self_test_takes_a_model_out_and_back(models):
    with Engine(models / "tiny" / "10", EngineOptions(integrity_interval=0.02)) as engine:
        model = engine.repository.slot("tiny").model
        limit = model.manifest.integrity
        object.__setattr__(limit, "logits_atol", -1.0)
        wait_for(lambda: not engine.ready)
        with pytest.raises(UnavailableError, match="Integrity"):
            engine.predict(artifacts.inputs(1))
        object.__setattr__(limit, "logits_atol", 1e-4)
        wait_for(lambda: engine.ready)


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({}, EngineOptions(), "off"),
        ({}, SHADOW, "expected 1-reference"),
        ({"change": lambda manifest: replace(manifest, drift=None)}, SHADOW, "no drift null"),
    ],
)
def test_drift_says_why_it_is_disabled(tmp_path, settings, options, reason):
    artifacts.write(tmp_path, **settings)
    with Engine(tmp_path, options) as engine:
        engine.predict(artifacts.inputs(1))
        report = engine.health("tiny").drift
        assert report.state == "disabled"
        assert reason in report.reason


def test_a_reference_that_fails_its_own_self_test_is_no_reference(tmp_path):
    artifacts.write(tmp_path)
    artifacts.write(tmp_path, variant="reference", stored=artifacts.network(seed=5))
    with Engine(tmp_path, SHADOW) as engine:
        assert "self-test" in engine.health("tiny").drift.reason


def test_the_reference_of_another_export_is_no_reference(tmp_path, monkeypatch):
    artifacts.write(tmp_path)
    another = artifacts.network(seed=7)
    monkeypatch.setattr(artifacts, "network", lambda: another)
    artifacts.write(tmp_path, variant="reference")

    with Engine(tmp_path, SHADOW) as engine:
        assert "not the reference that this artifact" in engine.health("tiny").drift.reason


def test_a_share_of_the_rows_is_sampled_and_the_rest_counted(models):
    with Engine(models / "tiny" / "10", replace(SHADOW, shadow=0.25)) as engine:
        traffic(engine, artifacts.inputs(800, seed=31))
        report = engine.health("tiny").drift
        assert report.compared + report.sampled_out == 800
        assert 150 < report.compared < 250


def test_a_stuck_reference_never_delays_a_request(models):
    with Engine(models / "tiny" / "10", replace(SHADOW, shadow_queue=2)) as engine:
        slot, gate = engine.repository.slot("tiny"), threading.Event()
        engine._watch._explain[slot] = lambda feed, target: gate.wait() and None
        started = time.perf_counter()
        for _ in range(50):
            engine.predict(artifacts.inputs(1))
        assert time.perf_counter() - started < 10.0
        assert engine.health("tiny").drift.dropped >= 47
        gate.set()


def test_the_reference_alone_has_no_drift_against_itself(tmp_path):
    artifacts.write_pair(tmp_path, share=0.0)
    with Engine(tmp_path, SHADOW) as engine:
        traffic(engine, artifacts.inputs(40))
        window = engine.health("tiny").drift.window["cosine"]
        assert np.isclose(window.mean, 0.0, atol=1e-6)
