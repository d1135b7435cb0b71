"""The OpenAPI document against the live service: schemathesis sends what it allows and what it does not."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_the_document_describes_the_models_that_are_loaded(target):
    document = httpx.get(f"{target.url}/openapi.json").json()
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    (model,) = (item for item in operation["parameters"] if item["name"] == "model")
    example = operation["requestBody"]["content"]["application/json"]["example"]

    assert target.model in model["schema"]["enum"]
    path = f"/v2/models/{model['schema']['enum'][0]}/infer"
    assert httpx.post(f"{target.url}{path}", json=example).status_code == 200


@pytest.mark.slow
def test_schemathesis_finds_nothing(target, tmp_path):
    """Answers, types and schemas are as the document says, whatever is sent."""
    code = "from schemathesis.cli import schemathesis; schemathesis()"
    command = [sys.executable, "-c", code, "--config-file", str(CONFIG), "run", f"{target.url}/openapi.json"]
    # Headers that nobody knows are no fault of a request, and schemathesis takes them for one.
    command += ["--phases", "examples,coverage", "--seed", "1", "--exclude-checks", "negative_data_rejection"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=280)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
