import json
import logging

import pytest

from clearweight.service.drift import Monitor
from clearweight.service.drift.state_file import StateFile
from tests.service.drift.streams import clean, drift
from tests.service.drift.test_monitor import Clock, feed

SHA = "ab" * 32


def monitor(shipped=None):
    clock = Clock()
    return Monitor(shipped or drift(), share=1.0, interval_days=30.0, clock=clock), clock


@pytest.fixture
def kept(tmp_path):
    watching, clock = monitor()
    feed(watching, clock, clean(120, 1) + 0.02)
    file = StateFile(tmp_path / "state", "tiny-1", SHA)
    file.save(watching)
    return file, watching


def test_what_was_saved_is_restored(kept):
    file, before = kept
    after, _ = monitor()

    assert StateFile(file.path.parent, "tiny-1", SHA).restore(after)
    assert after.snapshot() == before.snapshot()
    assert [path.name for path in file.path.parent.iterdir()] == ["tiny-1.drift.json"]


def test_without_a_file_the_charts_start_anew_without_a_word(tmp_path, caplog):
    assert not StateFile(tmp_path, "tiny-1", SHA).restore(monitor()[0])
    assert not caplog.records


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "JSONDecodeError"),
        (lambda path: path.write_bytes(b"\x00" * 50), "is not used: "),
        (lambda path: path.write_text("[]"), "TypeError"),
        (lambda path: edited(path, form=2), "of form and model"),
        (lambda path: edited(path, model_sha256="cd" * 32), "of form and model"),
        (lambda path: edited(path, state={}), "KeyError"),
        (lambda path: (path.unlink(), path.mkdir()), "IsADirectoryError"),
    ],
)
def test_a_damaged_or_foreign_file_is_left_with_a_logged_reason(kept, spoil, reason, caplog):
    file, _ = kept
    spoil(file.path)
    after, _ = monitor()
    fresh = after.snapshot()

    assert not file.restore(after)
    assert after.snapshot() == fresh
    assert reason in caplog.text


def test_a_state_of_other_charts_is_not_taken_over(kept, caplog):
    from tests.service.drift.test_monitor import CLASSES

    assert not kept[0].restore(monitor(drift(classes=CLASSES))[0])
    assert "The charts are" in caplog.text


def test_a_folder_that_cannot_be_written_is_logged_and_does_no_harm(tmp_path, caplog):
    (tmp_path / "state").write_text("a file where the folder should be")

    with caplog.at_level(logging.WARNING):
        StateFile(tmp_path / "state", "tiny-1", SHA).save(monitor()[0])
    assert "could not be written" in caplog.text
