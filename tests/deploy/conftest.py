"""A model repository made by hand, as the service's own tests make it."""

from pathlib import Path

import pytest

from tests.service import artifacts


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """One model with its reference, readable by everyone."""
    out = tmp_path_factory.mktemp("models")
    artifacts.write_pair(out)
    for path in (out, *out.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return out
