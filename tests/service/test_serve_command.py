"""``clearweight serve``: bad input ends with exit code 2 and a sentence, options reach the settings."""

import pytest
import typer
from typer.testing import CliRunner

import clearweight.service.serve
from clearweight.cli.serve import serve


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(serve)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_options_and_environment_reach_the_service(command, models, monkeypatch):
    seen = []
    monkeypatch.setattr(clearweight.service.serve, "serve", seen.append)
    monkeypatch.setenv("CLEARWEIGHT_GRPC_PORT", "7")

    result = command(models, "--http-port", 0, "--shadow", 0.5, "--low-fidelity", "annotate")

    assert result.exit_code == 0
    assert (seen[0].models, seen[0].http_port, seen[0].grpc_port) == (models, 0, 7)
    assert (seen[0].shadow, seen[0].low_fidelity) == (0.5, "annotate")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--shadow", "2"], "shadow"), (["--low-fidelity", "maybe"], "low_fidelity"), ([], "No artifact")],
)
def test_bad_input_is_exit_code_2_and_a_sentence(command, tmp_path, arguments, text):
    result = command(tmp_path, *arguments)

    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.output


def test_help_shows_an_example(command):
    assert "clearweight serve models" in command("--help").output
