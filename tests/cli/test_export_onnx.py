"""`clearweight export MODEL.onnx`: from a file and unlabelled inputs to what the engine serves."""

import json

import numpy as np
import onnx
import pytest

from clearweight.exporter.own_model import outputs_of
from clearweight.service import Engine
from tests.cli import onnx_files

X = np.random.default_rng(3).standard_normal((60, *onnx_files.SHAPE)).astype(np.float32)


@pytest.fixture
def net(tmp_path):
    return onnx_files.write(tmp_path / "net.onnx", onnx_files.model())


@pytest.fixture
def data(tmp_path):
    np.savez(tmp_path / "calibration.npz", x=X)
    return tmp_path / "calibration.npz"


def test_what_it_writes_is_served_and_answers_nearly_as_the_file(command, net, data, tmp_path):
    code, facts = command.json("export", net, "--data", data, "--out", tmp_path / "models")

    assert code == 0
    assert facts["fidelity"] == "passed"
    assert facts["packed_bytes"] < facts["reference_bytes"]
    expected = outputs_of(onnx.load(net), X)
    with Engine(tmp_path / "models") as engine:
        (logits,) = engine.predict(X).outputs.values()
        maps = engine.explain(X[:3])
    assert np.abs(logits - expected).max() < 0.3 * np.abs(expected).max()
    assert maps is not None
    assert command("verify", tmp_path / "models").exit_code == 0


def test_it_says_which_inputs_travel_and_warns_where_there_are_none(command, net, data, tmp_path):
    given = command("export", net, "--data", data, "--out", tmp_path / "a")
    missing = command("export", net, "--out", tmp_path / "b", "--min-attribution-similarity", "0.5")

    assert "16 inputs of calibration.npz travel with the artifact" in given.stderr
    assert "Warning: No --data" in missing.stderr


def test_a_budget_that_nothing_keeps_ends_in_exit_code_1_and_the_nearest(command, net, data, tmp_path):
    found = command("export", net, "--data", data, "--out", tmp_path / "m", "--max-logit-kl", "0", "--json")

    assert found.exit_code == 1
    assert "what is written is the nearest" in found.stderr
    assert json.loads(found.stdout)["fidelity"] == "failed"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--coder", "zip", "huffman or range"),
        ("--canaries", "none", "calibration or synthetic"),
        ("--methods", "x", "unknown"),
    ],
)
def test_wrong_options_are_refused(command, net, data, tmp_path, option, value, said):
    found = command("export", net, "--data", data, "--out", tmp_path / "m", option, value)

    assert found.exit_code == 2
    assert said in found.stderr
    assert not (tmp_path / "m").exists()
