"""The command line as a whole: its verbs, its help, its speed."""

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from clearweight.cli import VERBS

LISTED = (
    "export",
    "explain",
    "explain-check",
    "inspect",
    "verify",
    "sign",
    "report",
    "serve",
    "bench",
    "tune",
    "demo",
)


def test_the_verbs_are_those_of_the_documentation():
    assert tuple(VERBS) == LISTED


def test_help_names_every_verb_and_the_exit_codes(command):
    found = command("--help")

    assert found.exit_code == 0
    assert all(verb in found.stdout for verb in VERBS)
    assert "0 done, 1 a check failed, 2 bad input" in found.stdout


@pytest.mark.parametrize("verb", LISTED)
def test_every_verb_has_help_with_an_example(command, verb):
    found = command(verb, "--help")

    assert found.exit_code == 0
    assert f"Example: clearweight {verb}" in found.stdout


def test_the_version_is_the_packages(command):
    assert command("--version").stdout.strip() == version("clearweight")


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["verify"], ["verify", "x", "--nothing"], ["export", "r.yaml"]]
)
def test_a_wrong_command_line_is_bad_input(command, arguments):
    assert command(*arguments).exit_code == 2


def test_the_console_script_is_this_command():
    (script,) = entry_points(group="console_scripts", name="clearweight")

    assert script.value == "clearweight.cli.main:main"


def test_help_loads_neither_torch_nor_onnx_runtime():
    code = "import sys; from clearweight.cli.main import app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "clearweight.cli.main" in loaded
    heavy = {"torch", "onnx", "onnxruntime", "grpc", "fastapi", "pydantic", "clearweight.exporter"}
    assert heavy.isdisjoint(loaded)
