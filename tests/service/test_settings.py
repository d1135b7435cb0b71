import os
from dataclasses import fields, replace

import pytest
from pydantic import ValidationError

from clearweight.service import EngineOptions, Limits
from clearweight.service.core.dataplane import PlaneOptions
from clearweight.service.core.lane import LaneOptions
from clearweight.service.settings import Settings


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(("cores", "predict", "explain"), [(1, 1, 1), (2, 2, 2), (4, 2, 3)])
def test_no_lane_has_more_threads_than_there_are_cores(monkeypatch, tmp_path, cores, predict, explain):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    found = Settings(models=tmp_path, explain_workers=3).plane()
    assert (found.predict.workers, found.explain.workers) == (predict, explain)


def test_the_environment_sets_and_an_argument_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEARWEIGHT_HTTP_PORT", "9001")
    monkeypatch.setenv("CLEARWEIGHT_SHADOW", "0.5")

    settings = Settings(models=tmp_path, shadow=0.25)

    assert (settings.http_port, settings.shadow) == (9001, 0.25)


@pytest.mark.parametrize(
    "bad", [{"http_port": 70000}, {"shadow": 2}, {"low_fidelity": "ignore"}, {"threads": 0}, {"unknown": 1}]
)
def test_bad_settings_are_refused(bad, tmp_path):
    with pytest.raises(ValidationError):
        Settings(models=tmp_path, **bad)


def test_the_defaults_are_the_librarys_save_for_the_schedule(tmp_path):
    settings = Settings(models=tmp_path)

    assert settings.integrity_interval == 3600
    assert settings.engine() == EngineOptions(integrity_interval=3600, limits=Limits())
    assert settings.plane() == PlaneOptions()


def test_a_lane_takes_its_verbs_settings_and_the_shared_ones(tmp_path):
    chosen = Settings(
        models=tmp_path, explain_workers=3, explain_queue_timeout=2, max_batch=5, max_delay_ms=4
    )

    lane = LaneOptions(workers=3, queue=16, queue_seconds=2.0, max_batch=5, max_delay=0.004)
    assert chosen.plane().explain == lane
    assert chosen.plane().predict == replace(PlaneOptions().predict, max_batch=5, max_delay=0.004)


def test_the_models_of_the_start_are_named_with_commas(tmp_path):
    for text, names in (("*", None), ("", ()), ("a, b", ("a", "b"))):
        assert Settings(models=tmp_path, load=text).engine().load == names


def test_every_option_of_the_engine_can_be_set(tmp_path):
    own = {"shadow_seed", "limits", "public_key", "reference"}
    assert {field.name for field in fields(EngineOptions)} - own <= set(Settings.model_fields)
    assert Settings(models=tmp_path, max_body_bytes=7).engine().limits.body_bytes == 7
