"""The large export's bookkeeping on a network small enough for a test: the real command, timed, its memory read."""

import pytest

from benchmarks import large_export
from clearweight.artifact import find_artifacts


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    monkeypatch.setattr(large_export, "SIZE", 32)
    monkeypatch.setattr(large_export, "INPUTS", 256)
    return large_export.write_inputs(tmp_path, part=32)


def test_the_command_writes_an_artifact_and_what_it_took_is_read(narrow, tmp_path):
    seconds, spent, peak = large_export.exported(tmp_path)

    assert [path.parent.name for path in find_artifacts(tmp_path / "models")]
    assert seconds > 0
    assert spent > 0
    assert narrow < peak < 2 << 30


def test_an_export_that_reads_nothing_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 2"):
        large_export.exported(tmp_path)
