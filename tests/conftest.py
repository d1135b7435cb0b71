"""One small export, made once and shared by every test that only looks at it."""

import os
from pathlib import Path

import pytest

from tests import small_digits

# Several threads on busy cores spin against each other; subprocesses inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The small digits CNN, exported to a model repository of its own; look, do not touch."""
    from clearweight.exporter.checkpoint import Checkpoints
    from clearweight.exporter.pipeline import export

    folder = tmp_path_factory.mktemp("small_digits")
    return export(small_digits.recipe(), folder / "models", checkpoints=Checkpoints(folder / "work"))


@pytest.fixture(scope="session")
def models(exported) -> Path:
    """The model repository that holds `exported`."""
    path: Path = exported.path.parent.parent
    return path
