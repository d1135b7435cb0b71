"""The command run in process, and an artifact that needs no training."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clearweight.cli.main import app
from tests.service import artifacts


class Command:
    """Runs `clearweight` with arguments and keeps what it said."""

    def __call__(self, *arguments: object):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    def json(self, *arguments: object):
        found = self(*arguments, "--json")
        return found.exit_code, json.loads(found.stdout)


@pytest.fixture
def command() -> Command:
    return Command()


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A model repository made by hand: one artifact and its reference."""
    return artifacts.write_pair(tmp_path / "models").parent.parent
