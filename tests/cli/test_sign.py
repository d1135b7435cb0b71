"""`clearweight sign`, and `verify` with the key that goes with it."""

import json

import pytest
from typer.testing import CliRunner

from clearweight.cli.main import app
from tests import keys
from tests.service import artifacts

runner = CliRunner()


@pytest.fixture
def files(tmp_path):
    private, public = keys.pair()
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "public.pem").write_bytes(public)
    artifacts.write_pair(tmp_path / "models")
    return tmp_path


def call(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_model_and_reference_are_signed_and_verify_demands_it(files):
    models, public = files / "models", files / "public.pem"
    unsigned = call("verify", models, "--runtime-only", "--json", "--public-key", public)
    assert unsigned.exit_code == 1
    assert all("not signed" in finding["reason"] for finding in json.loads(unsigned.output))

    signed = call("sign", models, "--key", files / "key.pem")
    assert signed.exit_code == 0, signed.output
    assert signed.output.count("signed") == 2
    assert call("verify", models, "--runtime-only", "--public-key", public).exit_code == 0


def test_a_damaged_artifact_is_not_signed(files):
    weights = files / "models" / "tiny" / "1" / "weights.cwt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")

    assert call("sign", files / "models", "--key", files / "key.pem").exit_code == 2
    assert not (weights.parent / "manifest.sig").exists()


def test_a_key_that_is_none_is_one_line_and_exit_code_2(files):
    result = call("sign", files / "models", "--key", files / "models" / "tiny" / "1" / "predict.onnx")
    assert result.exit_code == 2
    assert "Ed25519" in result.stderr
