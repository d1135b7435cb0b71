import os
import shutil
import time

import pytest

from clearweight.service import Engine, EngineOptions, NotFoundError, UnavailableError
from clearweight.service.core.folder_watch import FolderWatch
from tests.service import artifacts


@pytest.fixture
def engine(tmp_path):
    artifacts.write(tmp_path / "models")
    with Engine(tmp_path / "models") as opened:
        yield opened


@pytest.fixture
def loads(engine, monkeypatch):
    """Folders whose sessions were opened."""
    found, load = [], engine.repository._load

    def counted(artifact):
        found.append(artifact.path.name)
        return load(artifact)

    monkeypatch.setattr(engine.repository, "_load", counted)
    return found


def version(engine):
    return engine.predict(artifacts.inputs(1)).version


def copied(source, target, names):
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, target / name)


def test_a_new_version_is_loaded_at_the_second_look_and_a_removed_one_retired_at_the_second(
    engine, loads, tmp_path
):
    watch = FolderWatch(engine.repository)
    path = artifacts.write(tmp_path / "models", version="2")
    watch.look()
    assert version(engine) == "1"
    watch.look()
    assert version(engine) == "2"
    watch.look()

    shutil.rmtree(path)
    watch.look()
    assert version(engine) == "2"
    watch.look()
    assert version(engine) == "1"
    with pytest.raises(NotFoundError):
        engine.repository.slot("tiny", "2")
    assert loads == ["2"]


def test_half_a_copy_is_never_opened_and_the_whole_one_is(engine, loads, tmp_path):
    source = artifacts.write(tmp_path / "source", version="2")
    target = tmp_path / "models" / "tiny" / "2"
    names = sorted(path.name for path in source.iterdir())
    watch = FolderWatch(engine.repository)
    for count in range(1, len(names)):
        copied(source, target, names[:count])
        for _ in range(3):
            watch.look()
        assert version(engine) == "1"
        assert engine.ready
    whole = (source / names[-1]).read_bytes()
    (target / names[-1]).write_bytes(whole[:-1])
    for _ in range(3):
        watch.look()
    assert loads == []
    (entry,) = [entry for entry in engine.index() if entry.version == "2"]
    assert entry.state == "UNAVAILABLE"
    assert names[-1] in entry.reason

    (target / names[-1]).write_bytes(whole)
    watch.look()
    watch.look()

    assert version(engine) == "2"


def test_a_bad_version_is_tried_once_until_it_changes(engine, loads, tmp_path):
    watch = FolderWatch(engine.repository)
    path = artifacts.write(tmp_path / "models", version="2", share=0.8)
    for _ in range(5):
        watch.look()
    assert loads == ["2"]
    assert version(engine) == "1"
    with pytest.raises(UnavailableError, match="below the budget"):
        engine.predict(artifacts.inputs(1), version="2")

    shutil.rmtree(path)
    artifacts.write(tmp_path / "models", version="2")
    for _ in range(5):
        watch.look()
    assert loads == ["2", "2"]
    assert version(engine) == "2"


def test_a_file_rewritten_in_place_with_its_old_times_is_noticed(engine, tmp_path):
    watch = FolderWatch(engine.repository)
    weights = tmp_path / "models" / "tiny" / "1" / "weights.cwt"
    whole, times = weights.read_bytes(), weights.stat()
    weights.write_bytes(bytes(reversed(whole)))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    watch.look()
    watch.look()

    assert version(engine) == "1"
    assert engine.ready
    assert "weights.cwt" in engine.index()[0].reason
    weights.write_bytes(whole)
    watch.look()
    watch.look()
    assert engine.index()[0].reason == ""


def test_an_unloaded_model_stays_out_until_its_files_change(engine, tmp_path):
    watch = FolderWatch(engine.repository)
    watch.look()
    engine.unload("tiny")
    for _ in range(3):
        watch.look()
    assert engine.repository.names == []

    artifacts.write(tmp_path / "models", version="2")
    watch.look()
    watch.look()
    assert version(engine) == "2"


def test_a_folder_that_goes_away_as_a_whole_takes_no_model_with_it(engine, tmp_path):
    watch = FolderWatch(engine.repository)
    (tmp_path / "models").rename(tmp_path / "offline")
    for _ in range(3):
        watch.look()
    assert version(engine) == "1"

    (tmp_path / "offline").rename(tmp_path / "models")
    watch.look()
    assert version(engine) == "1"


def test_a_device_may_start_with_an_empty_folder_and_is_filled_by_its_own_thread(tmp_path):
    with Engine(tmp_path, EngineOptions(watch_seconds=0.02)) as engine:
        assert engine.index() == []
        artifacts.write(tmp_path)
        until = time.monotonic() + 30
        while not engine.repository.names and time.monotonic() < until:
            time.sleep(0.01)
        assert version(engine) == "1"


def test_models_that_were_not_chosen_are_left_alone(tmp_path):
    artifacts.write(tmp_path)
    with Engine(tmp_path, EngineOptions(load=("tiny",))) as engine:
        watch = FolderWatch(engine.repository)
        artifacts.write(tmp_path, name="other")
        for _ in range(3):
            watch.look()
        assert engine.repository.names == ["tiny"]
