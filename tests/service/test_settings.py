from dataclasses import fields

import pytest
from pydantic import ValidationError

from clearweight.service import EngineOptions, Limits
from clearweight.service.core.dataplane import LaneOptions
from clearweight.service.settings import Settings


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
    assert settings.lanes() == LaneOptions()


def test_every_option_of_engine_and_lanes_can_be_set(tmp_path):
    own = {"shadow_seed", "limits"}
    for options in (EngineOptions, LaneOptions):
        assert {field.name for field in fields(options)} - own <= set(Settings.model_fields)
    assert Settings(models=tmp_path, max_body_bytes=7).engine().limits.body_bytes == 7
