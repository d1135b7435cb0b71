"""A service that requires a signature loads nothing else: at start, on reload, beside it as reference."""

import pytest

from clearweight.artifact.signature import sign
from clearweight.service import Engine, EngineOptions, LoadError
from clearweight.service.settings import Settings
from tests import keys
from tests.service import artifacts

X = artifacts.inputs(2)


@pytest.fixture(scope="module")
def pair():
    return keys.pair()


def test_signed_is_served_and_unsigned_is_not(tmp_path, pair):
    private, public = pair
    artifact = artifacts.write(tmp_path)
    options = EngineOptions(public_key=public)
    with pytest.raises(LoadError, match="not signed"):
        Engine(tmp_path, options)
    sign(artifact, private)
    with Engine(tmp_path, options) as engine:
        engine.predict(X)


def test_a_reload_of_what_another_key_signed_leaves_the_old_model_serving(tmp_path, pair):
    private, public = pair
    artifact = artifacts.write(tmp_path)
    sign(artifact, private)
    with Engine(tmp_path, EngineOptions(public_key=public)) as engine:
        before = engine.predict(X).outputs["logits"]
        sign(artifact, keys.pair()[0])
        with pytest.raises(LoadError, match="required key"):
            engine.load("tiny")
        assert (engine.predict(X).outputs["logits"] == before).all()
        assert "required key" in engine.index()[0].reason


def test_an_unsigned_reference_is_not_compared_with(tmp_path, pair):
    private, public = pair
    artifacts.write_pair(tmp_path)
    sign(tmp_path / "tiny" / "1", private)
    with Engine(tmp_path, EngineOptions(public_key=public, shadow=1.0)) as engine:
        engine.predict(X)
        drift = engine.health("tiny").drift
        assert "not signed" in drift.reason
    sign(tmp_path / "tiny" / "1-reference", private)
    with Engine(tmp_path, EngineOptions(public_key=public, shadow=1.0)) as engine:
        assert "not signed" not in engine.health("tiny").drift.reason


def test_the_setting_names_a_file(tmp_path, pair):
    key = tmp_path / "public.pem"
    with pytest.raises(LoadError, match=r"public\.pem"):
        Settings(models=tmp_path, require_signature=key).engine()
    key.write_bytes(pair[1])
    assert Settings(models=tmp_path, require_signature=key).engine().public_key == pair[1]
