"""A GRU and an LSTM go the whole way: pruned, shared, packed, explained by occlusion, served, watched."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from clearweight.artifact import Artifact
from clearweight.cli.verify import examine
from clearweight.exporter.digits import images
from clearweight.exporter.emission import explain_graphs
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.graph import embed_parameters, session
from clearweight.exporter.pipeline import export
from clearweight.exporter.rehearsal import rehearse
from clearweight.service import Engine, EngineOptions
from tests import small_digits

FINE_TUNE = small_digits.FINE_TUNE | {"epochs": 3, "learning_rate": 0.01}
WATCHED = EngineOptions(shadow=1.0, shadow_cpu_share=1.0, shadow_queue=64)


def changes(cell):
    prune = {
        "density": {"rows.weight_*": 0.5},
        "criterion": "first_order",
        "update_every": 10,
        "fine_tune": FINE_TUNE,
    }
    return {
        "name": cell,
        "model": {
            "callable": "clearweight.exporter.digits:row_reader",
            "arguments": {"cell": cell, "hidden": 16},
            "input_shape": [1, 8, 8],
        },
        "reference": {"fine_tune": FINE_TUNE | {"epochs": 8}},
        "steps": [
            {"prune": prune},
            {"share_weights": {"bits": 4, "fine_tune": FINE_TUNE | {"epochs": 1, "learning_rate": 0.0003}}},
        ],
        "explainers": ["occlusion"],
        "default_explainer": "occlusion",
        "explainer_settings": {"occlusion": {"window": 4, "stride": 2}},
        "fidelity": {"min_attribution_similarity": 0.5, "max_accuracy_drop": 0.5},
    }


@pytest.fixture(scope="module", params=["gru", "lstm"])
def made(request, tmp_path_factory):
    return export(small_digits.recipe(**changes(request.param)), tmp_path_factory.mktemp(request.param))


def slow_occlusion(predict, x, classes):
    """Mean over the 4 x 4 windows at a place, two apart, of what hiding the window takes from the class's logit."""
    fall, cover = np.zeros((len(x), 8, 8)), np.zeros((8, 8))
    whole = predict(x)[np.arange(len(x)), classes]
    for top in (0, 2, 4):
        for left in (0, 2, 4):
            hidden = x.copy()
            hidden[:, :, top : top + 4, left : left + 4] = 0
            lost = whole - predict(hidden)[np.arange(len(x)), classes]
            fall[:, top : top + 4, left : left + 4] += lost[:, None, None]
            cover[top : top + 4, left : left + 4] += 1
    return (fall / cover)[:, None]


def test_the_packed_weights_are_the_shipped_graphs(made):
    artifact = Artifact.open(made.path)
    weights = dict(artifact.weights().tensors())

    whole = embed_parameters(onnx.load_model_from_string(artifact.graph("predict.onnx")), weights)

    assert whole == made.compressed.predict
    rows = {row.name: row for row in artifact.manifest.ledger.rows}
    for name in ("rows.weight_ih_l0", "rows.weight_hh_l0"):
        assert rows[name].nonzero == np.count_nonzero(weights[name]) == weights[name].size // 2
        assert len(np.unique(weights[name])) <= 16
    # Four bits for half of the weights, but the biases and the last layer are as they were.
    assert artifact.manifest.ledger.packed_bytes < artifact.manifest.ledger.reference_bytes / 2


def test_it_is_served_in_process_and_explained_by_default(made):
    raw = images()[0][:3]
    x = raw.astype(np.float32) * 0.0625
    running = session(made.compressed.predict)
    with Engine(made.path) as engine:
        logits, found = engine.predict(raw).outputs["logits"], engine.explain(raw)

    np.testing.assert_allclose(logits, running.run(None, {"input": x})[0], atol=1e-5)
    told = made.manifest.explainers["occlusion"]
    assert found.map.shape == (3, *told.map_shape[1:]) == (3, 1, 8, 8)
    assert {key: found.parameters[key] for key in ("method", "baseline")} == {
        "method": "occlusion",
        "baseline": "zero",
    }
    expected = slow_occlusion(lambda rows: running.run(None, {"input": rows})[0], x, found.target)
    np.testing.assert_allclose(found.map, expected, atol=1e-5)


def test_its_answers_are_reproduced_and_compared_with_the_reference(made):
    assert made.manifest.fidelity.explainer == made.manifest.drift.explainer == "occlusion"
    assert {examine(path)["state"] for path in (made.path, made.reference_path)} == {"passed"}
    with Engine(made.path, WATCHED) as engine:
        engine.predict(images()[0][:20])
        engine.drain_shadow()
        health = engine.health(made.manifest.name)

    assert health.integrity.state == "passed"
    assert health.integrity.map_cosine > 0.999
    assert health.drift.compared == 20


def test_a_method_that_needs_the_gradient_is_refused(made):
    cell = changes(made.manifest.name)
    for also in (
        {"explainers": ["gradient", "occlusion"]},
        {
            "explainers": ["input_x_gradient"],
            "default_explainer": "input_x_gradient",
            "explainer_settings": {},
        },
    ):
        with pytest.raises(RecipeError, match=r"'(gradient|input_x_gradient)' does not .*Occlusion and RISE"):
            explain_graphs(made.compressed.predict, small_digits.recipe(**cell | also))
    inherited = {key: value for key, value in cell.items() if not key.startswith(("explainer", "default"))}
    with pytest.raises(RecipeError, match=r"'input_x_gradient' does not work on this network: .*(GRU|LSTM)"):
        explain_graphs(made.compressed.predict, small_digits.recipe(**inherited))


def test_int8_is_refused_before_any_training():
    with pytest.raises(RecipeError, match=r"deploy: int8 needs .*GRU"):
        rehearse(small_digits.recipe(**changes("gru"), deploy="int8"))


@pytest.mark.slow
def test_masks_are_explained_by_default_too(tmp_path):
    drawn = {
        "explainers": ["rise"],
        "default_explainer": "rise",
        "explainer_settings": {"rise": {"grid": 4}},
        "canaries": {"source": "synthetic", "count": 2},
        "steps": [{"half_precision": {}}],
    }
    short = {"data": small_digits.content()["data"] | {"calibration": 20, "validation": 50}}
    found = export(small_digits.recipe(**changes("gru") | drawn | short), tmp_path)

    assert found.manifest.fidelity.similarity["cosine"].mean > 0.999
    with Engine(found.path, replace(WATCHED, shadow=0.0)) as engine:
        assert engine.health("gru").integrity.state == "passed"
