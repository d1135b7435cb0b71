import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearweight.artifact import Artifact, find_artifacts, write_artifact, writer
from clearweight.artifact.errors import (
    ArtifactError,
    ArtifactExistsError,
    ChecksumError,
    FieldValueError,
    FileNameError,
    NotAnArtifactError,
    UnfinishedError,
)
from tests.artifact.samples import canary, contents, manifest, network, packed_report, written


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_path_is_name_and_version_and_nothing_else_is_left(tmp_path):
    path = written(tmp_path)

    assert path == tmp_path / "tiny" / "1"
    assert [entry.name for entry in path.parent.iterdir()] == ["1"]
    assert {file.name for file in path.iterdir()} == {"manifest.json", *contents(b"")}


def test_a_reference_stands_beside_under_its_own_name(tmp_path):
    written(tmp_path)

    assert written(tmp_path, variant="reference").name == "1-reference"
    assert find_artifacts(tmp_path) == [tmp_path / "tiny" / "1"]


def test_the_same_content_gives_the_same_bytes_in_two_places(tmp_path):
    written(tmp_path / "a")
    written(tmp_path / "b")

    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_contents_may_be_paths(tmp_path):
    weights, report = packed_report(network())
    (tmp_path / "w").write_bytes(weights)
    path = write_artifact(
        tmp_path / "out", manifest(report), contents(weights) | {"weights.cwt": tmp_path / "w"}
    )

    assert (path / "weights.cwt").read_bytes() == weights
    assert (tmp_path / "w").exists()
    assert Artifact.open(path)


def test_only_the_report_is_not_needed_on_a_device(tmp_path):
    files = Artifact.open(written(tmp_path)).manifest.files

    assert {name for name, entry in files.items() if not entry.device} == {"report.html"}


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    path = written(tmp_path)
    before = snapshot(path)
    with pytest.raises(ArtifactExistsError, match="already there"):
        written(tmp_path, labels=("other",))
    assert snapshot(path) == before


def test_overwriting_swaps_and_leaves_nothing_behind(tmp_path):
    written(tmp_path)
    weights, report = packed_report(network())
    path = write_artifact(tmp_path, manifest(report, labels=("new",)), contents(weights), overwrite=True)

    assert Artifact.open(path).manifest.labels == ("new",)
    assert [entry.name for entry in path.parent.iterdir()] == ["1"]
    assert write_artifact(tmp_path / "fresh", manifest(report), contents(weights), overwrite=True).is_dir()


def test_a_swap_that_fails_puts_the_old_one_back(tmp_path, monkeypatch):
    path = written(tmp_path)
    before = snapshot(path)
    rename, calls = Path.rename, []

    def failing(self, target):
        calls.append(self.name)
        if len(calls) == 2:  # the new one into place
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    weights, report = packed_report(network())
    with pytest.raises(OSError, match="disk gone"):
        write_artifact(tmp_path, manifest(report, labels=("new",)), contents(weights), overwrite=True)

    assert snapshot(path) == before
    assert [entry.name for entry in path.parent.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"weights.cwt": b"\x89CWT\x01\x00nope"}, FieldValueError),
        ({"notes.txt": b""}, FileNameError),
        ({"../evil": b""}, FileNameError),
        ({"manifest.json": b"{}"}, FileNameError),
    ],
    ids=["weights", "surplus", "path", "manifest"],
)
def test_what_could_not_be_opened_is_not_written(tmp_path, changes, error):
    weights, report = packed_report(network())
    with pytest.raises(error):
        write_artifact(tmp_path, manifest(report), contents(weights) | changes)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_damaged_weights_of_the_right_size_are_not_written(tmp_path):
    weights, report = packed_report(network())
    with pytest.raises(ChecksumError):
        write_artifact(tmp_path, manifest(report), contents(weights[:-1] + bytes([weights[-1] ^ 1])))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_missing_file_is_not_written(tmp_path):
    weights, report = packed_report(network())
    few = contents(weights)
    del few["predict.onnx"]
    with pytest.raises(FieldValueError, match=r"lacks predict.onnx"):
        write_artifact(tmp_path, manifest(report), few)


@pytest.mark.parametrize("name", ["../x", "/x", ""])
def test_a_name_that_leaves_the_repository_is_refused_before_anything_is_made(tmp_path, name):
    weights, report = packed_report(network())
    with pytest.raises(FileNameError):
        write_artifact(tmp_path / "out", manifest(report, name=name), contents(weights))
    assert not (tmp_path / "out").exists()


def test_every_interruption_leaves_nothing_that_loads(tmp_path, monkeypatch):
    # Fail at the n-th flush, for every n there is: each file, the folder, and the parent after the rename.
    flushes = 0
    fsync = os.fsync

    def count(handle):
        nonlocal flushes
        flushes += 1
        fsync(handle)

    monkeypatch.setattr(writer.os, "fsync", count)
    written(tmp_path / "whole")
    for last in range(flushes):
        out, left = tmp_path / str(last), [last]

        def stop(handle, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            fsync(handle)

        monkeypatch.setattr(writer.os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            written(out)
        if last == flushes - 1:
            assert Artifact.open(out / "tiny" / "1")  # complete: only the parent was not flushed yet
        else:
            assert not any(path.is_file() for path in out.rglob("*"))


KILLED = """
import os, pathlib, sys
sys.path.insert(0, os.getcwd())
from clearweight.artifact import writer
from tests.artifact.samples import written
flush = writer._flush_directory
def wait(path):
    flush(path)
    print("ready", flush=True)
    sys.stdin.read()
writer._flush_directory = wait
written(pathlib.Path(sys.argv[1]))
"""


def test_a_killed_write_leaves_a_hidden_folder_that_neither_opens_nor_is_listed(tmp_path):
    # Killed at the worst moment: every file is complete, only the rename is missing.
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    left = list((tmp_path / "tiny").iterdir())

    assert len(left) == 1
    assert (left[0] / "manifest.json").exists()
    with pytest.raises(NotAnArtifactError):
        find_artifacts(tmp_path)
    with pytest.raises(UnfinishedError):
        Artifact.open(left[0])
    assert Artifact.open(written(tmp_path))  # and the next write is not in its way


def test_nothing_written_depends_on_the_time_or_place(tmp_path, monkeypatch):
    first = written(tmp_path / "a")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.chdir(tmp_path)
    second = written(Path("b"))

    assert snapshot(first) == snapshot(tmp_path / second)
    assert all(str(tmp_path).encode() not in file.read_bytes() for file in first.iterdir())


def test_probes_must_be_as_many_as_the_manifest_states(tmp_path):
    weights, report = packed_report(network())
    with pytest.raises(ArtifactError):
        write_artifact(
            tmp_path, manifest(report), contents(weights) | {"canaries.safetensors": canary(2).to_bytes()}
        )
