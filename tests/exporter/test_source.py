"""The user's callables and weights: found where they are, refused by name where they do not fit."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clearweight.exporter import SourceError
from clearweight.exporter.source import build_model, load_callable, load_weights

MODULE = """
import torch
def net(width=3):
    return torch.nn.Linear(2, width)
def text():
    return "no module"
number = 1
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's project as the working directory."""
    (tmp_path / "user_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("user_models", None)


def test_the_working_directory_is_searched_last(project):
    load_callable("user_models:net")

    assert sys.path[-1] == str(project)
    assert sys.path[0] != str(project)


def test_a_users_module_never_shadows_an_installed_one(project):
    (project / "safetensors.py").write_text("def save(): return 'the user own'\n")

    assert load_callable("safetensors.numpy:save").__module__ == "safetensors.numpy"


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("user_models", "not of the form 'module:callable'"),
        ("user_models:", "not of the form"),
        (":net", "not of the form"),
        ("user_nowhere:net", "Cannot import module 'user_nowhere'"),
        ("user_models:nothing", "has no callable 'nothing'"),
        ("user_models:number", "has no callable 'number'"),
    ],
)
def test_a_callable_that_cannot_be_had_is_named(project, reference, match):
    with pytest.raises(SourceError, match=match):
        load_callable(reference)


def test_arguments_reach_the_factory_and_the_model_is_in_evaluation_mode(project):
    model = build_model("user_models:net", {"width": 5}, None)

    assert model.weight.shape == (5, 2)
    assert not model.training


@pytest.mark.parametrize(
    ("reference", "arguments", "match"),
    [
        ("user_models:net", {"depth": 1}, "cannot be called with"),
        ("user_models:text", {}, "returned str, expected a torch.nn.Module"),
    ],
)
def test_a_factory_that_does_not_give_a_model_is_named(project, reference, arguments, match):
    with pytest.raises(SourceError, match=match):
        build_model(reference, arguments, None)


STATE = {"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "bias": torch.tensor([7.0, 8.0, 9.0])}


def write(path, state):
    match path.suffix:
        case ".safetensors":
            save_file(state, path)
        case ".npz":
            np.savez(path, **{name: value.numpy() for name, value in state.items()})
        case ".pt":
            torch.save({"state_dict": state}, path)
        case ".pth":
            torch.save(state, path)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pt", ".pth"])
def test_weights_of_every_format_arrive(tmp_path, ending):
    path = tmp_path / f"w{ending}"
    write(path, STATE)
    model = nn.Linear(2, 3)

    load_weights(model, path)

    assert torch.equal(model.weight, STATE["weight"])
    assert torch.equal(model.bias, STATE["bias"])


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"weight": Attack()}, tmp_path / "w.pt")

    with pytest.raises(SourceError, match=r"w\.pt"):
        load_weights(nn.Linear(2, 3), tmp_path / "w.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"weight": STATE["weight"]}, r"missing \['bias'\]"),
        (STATE | {"extra": torch.zeros(1)}, r"surplus \['extra'\]"),
        (STATE | {"bias": torch.zeros(2)}, r"'bias' has shape \(2,\), expected \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, state, match):
    path = tmp_path / "w.safetensors"
    write(path, state)

    with pytest.raises(SourceError, match=match):
        load_weights(nn.Linear(2, 3), path)


def test_an_unknown_ending_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "w.bin").touch()
    with pytest.raises(SourceError, match=r"end in '\.bin', expected \.safetensors"):
        load_weights(nn.Linear(2, 3), tmp_path / "w.bin")
    with pytest.raises(SourceError, match=r"none\.safetensors"):
        load_weights(nn.Linear(2, 3), tmp_path / "none.safetensors")


def test_a_module_that_fails_while_it_is_imported_is_named_with_its_error(project):
    (project / "broken_module.py").write_text("1 / 0\n")

    with pytest.raises(SourceError, match=r"'broken_module'.*ZeroDivisionError"):
        load_callable("broken_module:cnn")
