"""Whatever ends an export early leaves nothing that loads; going on gives the bytes of an undisturbed run."""

import filecmp
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearweight.artifact import Artifact, find_artifacts
from clearweight.artifact.errors import NotAnArtifactError
from clearweight.exporter.plain_forms import FORMS
from tests import small_digits

WRITER = Path(__file__).with_name("interrupted_writer.py")


def loadable(out: Path) -> list[Path]:
    """Return what a service would find there."""
    try:
        return find_artifacts(out)
    except NotAnArtifactError:
        return []


@dataclass
class Ended:
    code: int
    stderr: str
    found: list[Path]


def start(folder: Path) -> subprocess.Popen:
    """Begin an export with checkpoints, from a directory of its own."""
    recipe = small_digits.write(folder)
    command = [
        # A shell that runs the tests in the background has its children ignore Ctrl-C; this one must hear it.
        *("env", "--default-signal=INT"),
        sys.executable,
        "-m",
        "clearweight.cli.main",
        "export",
        recipe,
        "--out",
        "models",
        "--work",
        "work",
    ]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def end(process: subprocess.Popen, folder: Path) -> Ended:
    _, said = process.communicate(timeout=240)
    return Ended(process.returncode, said, loadable(folder / "models"))


def interrupt(folder: Path, steps: int, number: signal.Signals) -> Ended:
    """Send a signal as soon as ``steps`` finished pieces of work are kept."""
    process = start(folder)
    deadline = time.monotonic() + 240
    while len(list(folder.glob("work/*.safetensors"))) < steps and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    return end(process, folder)


@dataclass
class Story:
    folder: Path
    killed: Ended
    interrupted: Ended
    finished: Ended


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    """One export: killed when the reference is trained, interrupted when pruning is done, then left alone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    killed = interrupt(folder, 1, signal.SIGKILL)
    interrupted = interrupt(folder, 2, signal.SIGINT)
    return Story(folder, killed, interrupted, end(start(folder), folder))


def test_kill_9_leaves_nothing_that_loads(story):
    assert story.killed.code == -signal.SIGKILL
    assert story.killed.found == []


def test_ctrl_c_leaves_nothing_and_says_so(story):
    assert story.interrupted.code == 130
    assert story.interrupted.stderr.endswith("interrupted; nothing was written\n")
    assert "Traceback" not in story.interrupted.stderr
    assert story.interrupted.found == []


def test_the_next_run_does_not_repeat_finished_steps(story):
    assert story.finished.code == 0, story.finished.stderr
    assert "reference:" not in story.interrupted.stderr
    assert "prune:" not in story.finished.stderr


def test_two_directories_and_three_interruptions_give_the_same_bytes(story, models):
    """`models` was exported in one go, by another process, in another directory."""
    for folder in ("1", "1-reference", "1-onnx"):
        one, other = models / "digits" / folder, story.folder / "models" / "digits" / folder
        names = sorted(p.name for p in one.iterdir())
        assert names == sorted(p.name for p in other.iterdir())
        _, different, failed = filecmp.cmpfiles(one, other, names, shallow=False)
        assert (different, failed) == ([], [])


def write(models: Path, out: Path, last: int) -> subprocess.CompletedProcess:
    command = [sys.executable, str(WRITER), str(models), str(out), str(last)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def steps(models, tmp_path_factory) -> int:
    """How many flushes and renames the writing of one export takes."""
    return int(write(models, tmp_path_factory.mktemp("whole"), -1).stdout)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_kill_9_while_writing_leaves_nothing_or_everything(models, steps, tmp_path, share):
    last = max(1, round(share * steps))

    ended = write(models, tmp_path, last)

    assert ended.returncode == -signal.SIGKILL
    whole_or_nothing(tmp_path)


@pytest.mark.slow
def test_kill_9_at_every_step_of_writing(models, steps, tmp_path):
    for last in range(1, steps + 1):
        out = tmp_path / str(last)
        assert write(models, out, last).returncode == -signal.SIGKILL
        whole_or_nothing(out)


def whole_or_nothing(out: Path) -> None:
    """A version that is found opens, and so does what belongs beside it."""
    for path in loadable(out):
        assert Artifact.open(path).manifest.variant == "compressed"
        assert Artifact.open(path.with_name("1-reference")).manifest.variant == "reference"
        assert {p.name for p in path.with_name("1-onnx").iterdir()} == {*FORMS, "forms.json"}


def test_a_killed_write_does_not_stop_the_next_one(models, steps, tmp_path):
    write(models, tmp_path, steps // 2)

    assert write(models, tmp_path, -1).returncode == 0
    assert len(loadable(tmp_path)) == 1
