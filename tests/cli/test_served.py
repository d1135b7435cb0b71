"""A served model called both ways."""

import numpy as np
import pytest
import typer

from clearweight.cli.served import body_of, get, rest, rpc, serving
from clearweight.service import Engine


@pytest.fixture(scope="module")
def server(models):
    with serving(models, integrity_interval="0") as running:
        yield running


@pytest.mark.parametrize("verb", ["infer", "explain"])
def test_both_transports_answer_what_the_engine_answers(server, models, exported, verb):
    inputs = exported.prepared.test.inputs[:3]
    engine = Engine(models)
    expected = engine.predict(inputs).outputs
    if verb == "explain":
        found = engine.explain(inputs)
        expected = found.outputs | {"explain": found.map, "target": found.target}

    for way in (rest, rpc):
        outputs = way(server, "digits", verb, inputs)
        for name, values in expected.items():
            assert np.array_equal(outputs[name], values), (way, name)


def test_the_three_questions_are_answered(server):
    health = get(f"{server.url}/v2/models/digits/drift")

    assert health["integrity"]["state"] == "passed"
    assert health["fidelity"]["state"] == "passed"
    assert health["drift"]["state"] == "disabled"


def test_a_service_that_does_not_start_is_told(tmp_path, capsys):
    with pytest.raises(typer.Exit), serving(tmp_path):
        pass

    assert "ended with exit code 2 before it was ready" in capsys.readouterr().err


def test_the_body_is_flat_and_complete():
    (tensor,) = body_of(np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2))["inputs"]

    assert tensor == {"name": "input", "datatype": "UINT8", "shape": [1, 1, 2, 2], "data": [0, 1, 2, 3]}
