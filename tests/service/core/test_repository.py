"""Models that come, change and go while requests run."""

import gc
import shutil
import threading
import weakref

import numpy as np
import pytest

from clearweight.service import Engine, EngineOptions, LoadError, NotFoundError, UnavailableError
from tests.service import artifacts


def states(engine):
    return {(entry.name, entry.version): entry.state for entry in engine.index()}


def reason(engine, version):
    return next(entry.reason for entry in engine.index() if entry.version == version)


def overwrite(root, **settings):
    """Put another artifact in the place of tiny/1, as a copying tool would."""
    artifacts.write(root / "elsewhere", **settings)
    shutil.rmtree(root / "models" / "tiny" / "1")
    shutil.copytree(root / "elsewhere" / "tiny" / "1", root / "models" / "tiny" / "1")
    shutil.rmtree(root / "elsewhere")


def over_pruned(root, version):
    return artifacts.write(root, version=version, share=0.8)


def damaged(root, version):
    path = artifacts.write(root, version=version)
    (path / "weights.cwt").write_bytes(b"\0" * (path / "weights.cwt").stat().st_size)
    return path


def inconsistent(root, version):
    wrong = artifacts.pruned(artifacts.network(), 0.2)
    wrong.w1[3, 27] += 0.05
    return artifacts.write(root, version=version, stored=wrong)


@pytest.fixture
def models(tmp_path):
    artifacts.write(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def engine(models):
    with Engine(models) as opened:
        yield opened


def test_a_new_version_takes_over_when_it_is_loaded(engine, models):
    artifacts.write(models, version="2", share=0.1)
    assert states(engine) == {("tiny", "1"): "READY", ("tiny", "2"): "UNKNOWN"}
    assert engine.predict(artifacts.inputs(1)).version == "1"

    engine.load("tiny")

    assert states(engine) == {("tiny", "1"): "READY", ("tiny", "2"): "READY"}
    found = engine.predict(artifacts.inputs(3))
    assert found.version == "2"
    assert np.allclose(
        found.logits,
        artifacts.pruned(artifacts.network(), 0.1).logits(artifacts.inputs(3)),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(over_pruned, "below the budget"), (damaged, r"weights\.cwt"), (inconsistent, "Logits differ")],
)
def test_a_bad_version_leaves_the_old_one_serving_and_says_why(engine, models, spoil, why):
    spoil(models, "2")

    with pytest.raises(LoadError, match=why):
        engine.load("tiny")

    assert engine.predict(artifacts.inputs(1)).version == "1"
    assert engine.ready
    assert states(engine) == {("tiny", "1"): "READY", ("tiny", "2"): "UNAVAILABLE"}
    with pytest.raises(UnavailableError, match=why):
        engine.predict(artifacts.inputs(1), version="2")
    shutil.rmtree(models / "tiny" / "2")
    artifacts.write(models, version="2")
    engine.load("tiny")
    assert engine.predict(artifacts.inputs(1)).version == "2"
    assert reason(engine, "2") == ""


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"share": 0.8}, "below the budget"), ({"stored": artifacts.network(9)}, "Logits differ")],
)
def test_a_bad_overwrite_leaves_the_old_content_serving(engine, models, settings, why):
    before = engine.predict(artifacts.inputs(4)).logits
    overwrite(models.parent, **settings)

    with pytest.raises(LoadError, match=why):
        engine.load("tiny")

    assert np.array_equal(engine.predict(artifacts.inputs(4)).logits, before)
    assert states(engine) == {("tiny", "1"): "READY"}
    assert why in reason(engine, "1")
    overwrite(models.parent, share=0.1)
    engine.load("tiny")
    assert not np.array_equal(engine.predict(artifacts.inputs(4)).logits, before)
    assert reason(engine, "1") == ""


def held(model):
    """Make the model's runs wait for a gate; returns what says that one has begun, and the gate."""
    gate, entered, run = threading.Event(), threading.Event(), model._predict.run

    def wait(*arguments):
        entered.set()
        gate.wait(30)
        return run(*arguments)

    model._predict.run = wait
    return entered, gate


def test_requests_in_flight_end_on_the_model_they_began_on_and_its_memory_goes(engine, models):
    old, found, x = weakref.ref(engine.repository.slot("tiny").model), [], artifacts.inputs(2)
    entered, gate = held(old())
    thread = threading.Thread(target=lambda: found.append(engine.predict(x).logits))
    thread.start()
    assert entered.wait(30)
    overwrite(models.parent, share=0.1)
    engine.load("tiny")
    now = engine.predict(x).logits
    assert old() is not None
    gate.set()
    thread.join()

    assert np.allclose(found[0], artifacts.pruned(artifacts.network(), 0.2).logits(x), atol=1e-6)
    assert np.allclose(now, artifacts.pruned(artifacts.network(), 0.1).logits(x), atol=1e-6)
    gc.collect()
    assert old() is None


def test_an_unchanged_model_keeps_its_sessions(engine):
    before = engine.repository.slot("tiny").model

    engine.load("tiny")

    assert engine.repository.slot("tiny").model is before


def test_unloading_frees_the_model_and_loading_brings_it_back(engine):
    old = weakref.ref(engine.repository.slot("tiny").model)

    engine.unload("tiny")

    gc.collect()
    assert old() is None
    assert states(engine) == {("tiny", "1"): "UNAVAILABLE"}
    assert "unloaded" in reason(engine, "1")
    for version in (None, "1"):
        with pytest.raises(UnavailableError, match="unloaded"):
            engine.predict(artifacts.inputs(1), model="tiny", version=version)
    with pytest.raises(UnavailableError, match="No model"):
        engine.predict(artifacts.inputs(1))
    engine.load("tiny")
    assert engine.predict(artifacts.inputs(1)).version == "1"


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_unknown_names_are_not_found(engine, verb):
    for name in ("other", "../models", "/tiny", ""):
        with pytest.raises(NotFoundError):
            getattr(engine, verb)(name)


def test_loading_retires_versions_that_are_gone_from_disk(engine, models):
    artifacts.write(models, version="2")
    engine.load("tiny")
    shutil.rmtree(models / "tiny" / "2")
    assert engine.predict(artifacts.inputs(1)).version == "2"

    engine.load("tiny")

    assert engine.predict(artifacts.inputs(1)).version == "1"
    with pytest.raises(NotFoundError):
        engine.predict(artifacts.inputs(1), version="2")


def test_the_index_shows_a_load_that_is_under_way(engine, models, monkeypatch):
    artifacts.write(models, version="2")
    seen = []
    load = engine.repository._load

    def look(artifact):
        seen.append(states(engine))
        return load(artifact)

    monkeypatch.setattr(engine.repository, "_load", look)
    engine.load("tiny")

    assert seen == [{("tiny", "1"): "READY", ("tiny", "2"): "LOADING"}]


def test_only_chosen_models_are_loaded_at_the_start(models):
    artifacts.write(models, name="other")

    with Engine(models, EngineOptions(load=("other",))) as engine:
        assert engine.repository.names == ["other"]
        assert states(engine) == {("other", "1"): "READY", ("tiny", "1"): "UNKNOWN"}
        with pytest.raises(UnavailableError, match="not loaded"):
            engine.predict(artifacts.inputs(1), model="tiny")
        engine.load("tiny")
        assert engine.predict(artifacts.inputs(1), model="tiny").version == "1"
    with pytest.raises(NotFoundError, match="nobody"):
        Engine(models, EngineOptions(load=("nobody",)))


def test_a_withdrawn_version_gives_way_to_the_one_below_until_it_is_put_back(engine, models):
    artifacts.write(models, version="2")
    engine.load("tiny")
    slot = engine.repository.slot("tiny")

    engine.repository.withdraw(slot, "Drift alarm.")

    assert engine.predict(artifacts.inputs(1)).version == "1"
    with pytest.raises(UnavailableError, match=r"Drift alarm\."):
        engine.predict(artifacts.inputs(1), version="2")
    engine.repository.withdraw(slot, "")
    assert engine.predict(artifacts.inputs(1)).version == "2"


def test_drift_follows_loads_and_unloads(tmp_path):
    artifacts.write_pair(tmp_path)
    with Engine(tmp_path, EngineOptions(shadow=1.0, shadow_cpu_share=1.0)) as engine:
        artifacts.write_pair(tmp_path, version="2", share=0.1)
        engine.load("tiny")
        engine.explain(artifacts.inputs(5))
        engine.drain_shadow()

        assert engine.health("tiny", "2").drift.compared == 5
        assert engine.health("tiny", "1").drift.compared == 0
        old = weakref.ref(engine.repository.slot("tiny", "2").reference)
        engine.unload("tiny")
        gc.collect()
        assert old() is None


def test_many_callers_see_only_whole_versions_while_two_contents_take_turns(engine, models):
    x = artifacts.inputs(3)
    allowed = [artifacts.pruned(artifacts.network(), share).logits(x) for share in (0.2, 0.1)]
    stop, wrong, calls = threading.Event(), [], []

    def call():
        while not stop.is_set():
            found = engine.predict(x).logits
            calls.append(1)
            if not any(np.allclose(found, logits, atol=1e-6) for logits in allowed):
                wrong.append(found)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for share in (0.1, 0.2, 0.1):
        overwrite(models.parent, share=share)
        engine.load("tiny")
    stop.set()
    for caller in callers:
        caller.join()
    assert not wrong
    assert len(calls) > 10
    assert np.allclose(engine.predict(x).logits, allowed[1], atol=1e-6)
