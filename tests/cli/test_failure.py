"""What goes wrong becomes one line and an exit code."""

import pytest
import typer

from clearweight.artifact.errors import ArtifactError
from clearweight.cli.failure import BAD_INPUT, EXTRAS, INTERRUPTED, guarded, missing_extra
from clearweight.exporter import RecipeError
from clearweight.service import NotFoundError


def run(error, capsys):
    @guarded
    def verb():
        raise error

    with pytest.raises(typer.Exit) as caught:
        verb()
    out, err = capsys.readouterr()
    assert out == ""
    return caught.value.exit_code, err


@pytest.mark.parametrize(
    "error",
    [ArtifactError("What.\nWhere."), RecipeError("What.\nWhere."), NotFoundError("What.\nWhere.")],
)
def test_an_expected_error_is_one_line_and_exit_code_2(error, capsys):
    assert run(error, capsys) == (BAD_INPUT, "What. Where.\n")


def test_a_file_system_error_is_told_and_not_thrown(capsys):
    code, text = run(FileNotFoundError(2, "No such file", "x.yaml"), capsys)

    assert code == BAD_INPUT
    assert "x.yaml" in text


def test_an_interruption_is_130(capsys):
    assert run(KeyboardInterrupt(), capsys) == (INTERRUPTED, "interrupted; nothing was written\n")


@pytest.mark.parametrize(("module", "extra"), [("torch.nn", "exporter"), ("onnxruntime", "service")])
def test_a_missing_dependency_names_the_extra(module, extra, capsys):
    code, text = run(ModuleNotFoundError("No module", name=module), capsys)

    assert code == BAD_INPUT
    assert f"pip install 'clearweight[{extra}]'" in text


def test_a_mistake_of_ours_keeps_its_traceback():
    @guarded
    def verb():
        raise ZeroDivisionError

    @guarded
    def other():
        raise ModuleNotFoundError("No module named 'x'", name="x")

    with pytest.raises(ZeroDivisionError):
        verb()
    with pytest.raises(ModuleNotFoundError):
        other()


def test_no_module_is_in_two_extras():
    assert not frozenset.intersection(*EXTRAS.values())
    assert missing_extra(ModuleNotFoundError("No module")) is None
