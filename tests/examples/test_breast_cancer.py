"""The example that goes from a trained module to a service that is asked, as its README tells it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import start_server, stop_server

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast_cancer"
CLI = "from clearweight.cli.main import app; app()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    copy = tmp_path_factory.mktemp("example") / "breast_cancer"
    return Path(shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("models", "*.safetensors")))


def run(folder, *arguments):
    """Run Python in the example's folder and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def exported(folder):
    printed = run(folder, "train.py")
    recipe = (folder / "recipe.yaml").read_text()
    # The recipe scales inputs as the training did.
    assert all(line in recipe for line in printed.splitlines())
    return json.loads(run(folder, "-c", CLI, "export", "recipe.yaml", "--out", "models", "--json"))


def test_the_export_keeps_its_budget(exported):
    assert exported["fidelity"] == "passed"
    assert exported["ratio"] > 20
    assert exported["accuracy"] > 0.93


def test_a_caller_gets_the_class_and_its_measurements(exported, folder):
    server = start_server(folder / "models")
    try:
        answer = run(folder, "ask.py", server.url).splitlines()
    finally:
        assert stop_server(server) == 0

    assert answer[0].startswith("true class 1; answer benign")
    assert len(answer) == 7
    sizes = [abs(float(line.split()[0])) for line in answer[1:6]]
    assert sizes == sorted(sizes, reverse=True)
    assert 0.1 < sizes[0] < 20  # the map of scaled measurements; of raw ones it has hundreds
    assert "'fidelity': 'passed'" in answer[6]
