"""The pipeline's result: a manifest that agrees with what was measured, and files that agree with the manifest."""

import dataclasses

import numpy as np
import onnxruntime as ort
import pytest

from clearweight.artifact import Artifact, find_artifacts
from clearweight.artifact.errors import ArtifactExistsError
from clearweight.artifact.score import SCORES
from clearweight.exporter.calibration import explained
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.graph import session
from clearweight.exporter.pipeline import export, finish
from clearweight.exporter.plain_forms import FORMS
from tests import small_digits


def test_three_folders_are_left_and_one_of_them_is_a_version(exported, models):
    assert {p.name for p in (models / "digits").iterdir()} == {"1", "1-reference", "1-onnx"}
    assert find_artifacts(models) == [exported.path]


def test_the_artifact_holds_exactly_the_contracts_files(exported):
    assert {p.name for p in exported.path.iterdir()} == {
        "manifest.json",
        "predict.onnx",
        "explain.gradient.onnx",
        "explain.input_x_gradient.onnx",
        "explain.gradcam.onnx",
        "weights.cwt",
        "canaries.safetensors",
        "report.html",
    }
    assert {p.name for p in exported.onnx_path.iterdir()} == {*FORMS, "forms.json"}


def test_the_fidelity_record_is_what_the_shipped_graphs_give(exported):
    prepared = exported.prepared
    inputs = prepared.inputs(prepared.splits.calibration).numpy()
    aim = explained(session(exported.reference.graphs["input_x_gradient"].model), inputs, None)
    target = aim.logits.argmax(1)
    own = explained(session(exported.compressed.graphs["input_x_gradient"].model), inputs, target)

    record = exported.manifest.fidelity

    assert record.samples == 150
    for name, score in SCORES.items():
        assert record.similarity[name].mean == pytest.approx(
            1 - np.nanmean(score(own.maps, aim.maps)), abs=1e-6
        )
    assert record.agreement == pytest.approx((own.logits.argmax(1) == target).mean())
    assert exported.manifest.drift.scores["pooled_cosine"].samples == 150


def test_the_small_export_is_good_enough_to_test_with(exported):
    assert exported.manifest.reference_quality.accuracy > 0.9
    assert exported.manifest.fidelity.passed


def test_every_parameter_of_the_reference_is_counted_once(exported):
    book = exported.manifest.ledger
    own = dict(exported.prepared.reference.named_parameters())

    assert {row.name: row.shape for row in book.rows} == {n: tuple(p.shape) for n, p in own.items()}
    assert book.reference_bytes == 4 * sum(p.numel() for p in own.values())
    assert sum(row.bytes for row in book.rows) + book.overhead_bytes == book.packed_bytes
    assert book.packed_bytes == (exported.path / "weights.cwt").stat().st_size


def test_device_bytes_are_all_files_but_the_report(exported):
    sizes = {p.name: p.stat().st_size for p in exported.path.iterdir()}

    assert Artifact.open(exported.path).device_bytes == sum(sizes.values()) - sizes["report.html"]


def test_the_reference_lies_beside_in_the_same_form(exported):
    reference = Artifact.open(exported.reference_path)

    assert reference.manifest.variant == "reference"
    assert reference.manifest.fidelity is None
    assert reference.manifest.drift is None
    assert reference.manifest.inputs == exported.manifest.inputs
    assert np.array_equal(
        reference.canaries().maps_compressed, Artifact.open(exported.path).canaries().maps_reference
    )


@pytest.mark.parametrize("name", FORMS)
def test_stock_onnx_runtime_runs_the_exchange_forms(exported, name):
    prepared = exported.prepared
    x = prepared.inputs(prepared.test)[:100].numpy()
    expected = session(exported.compressed.predict).run(None, {"input": x})[0]

    found = ort.InferenceSession(exported.onnx_path / name).run(None, {"input": x})[0]

    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.95
    if name == "model.sparse.onnx":
        assert np.allclose(found, expected, atol=1e-5)


def test_an_existing_version_is_refused_before_any_work(models):
    def never(*_):
        raise AssertionError("work began")

    with pytest.raises(ArtifactExistsError, match="already there"):
        export(small_digits.recipe(), models, never)


def test_an_over_pruned_model_fails_fidelity_although_its_accuracy_is_fine(exported, tmp_path):
    steps = [
        {
            "prune": {
                "density": 0.2,
                "update_every": 10,
                "fine_tune": small_digits.FINE_TUNE | {"epochs": 12},
            }
        }
    ]
    recipe = small_digits.recipe(
        steps=steps,
        objective={"terms": [{"task": {}}]},
        fidelity={"min_attribution_similarity": 0.9, "max_accuracy_drop": 0.1},
        canaries={"source": "synthetic", "count": 4},
    )
    from clearweight.exporter.compression import compress

    prepared = dataclasses.replace(exported.prepared, recipe=recipe, checkpoints=Checkpoints())
    found = finish(prepared, compress(prepared), tmp_path).manifest

    assert found.fidelity.accuracy_drop <= 0.1
    assert not found.fidelity.passed
    assert found.fidelity.similarity["cosine"].mean < 0.9
    # Its own null is as wide as its failure: no limit calibrated on it would see anything.
    assert found.drift.scores["cosine"].mean > 0.1
    assert found.canaries.source == "synthetic"


def test_nothing_of_this_machine_is_in_any_file(exported, models):
    import getpass
    import socket

    words = {str(models.parent), socket.gethostname()}
    if getpass.getuser() != "root":
        words.add(getpass.getuser())
    for path in models.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [w for w in words if len(w) > 3 and w.encode() in data], path


def test_everything_after_training_reports_how_far_it_is(tmp_path):
    told = []
    export(small_digits.recipe(), tmp_path, lambda what, step, steps, _loss: told.append((what, step, steps)))
    after = told[-12:]

    assert [step for step in after if step[0].startswith("explain")] == [
        (what, step, 3) for what in ("explain graphs, reference", "explain graphs") for step in (1, 2, 3)
    ]
    assert after[-6:] == [(what, step, 3) for what in ("measure", "write") for step in (1, 2, 3)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"explainers": ["gradient", "guesswork"], "default_explainer": "gradient"}, "unknown 'guesswork'"),
        ({"device_profile": "nowhere.json"}, "nowhere.json"),
        ({"feature_layer": "conv9"}, "conv9"),
        ({"report": {"units": [{"layer": "conv9", "channel": 0}]}}, "report.units: 'conv9'"),
    ],
)
def test_what_the_network_does_not_have_is_refused_before_any_training(tmp_path, changes, says):
    told = []

    with pytest.raises(RecipeError, match=says):
        export(small_digits.recipe(**changes), tmp_path, lambda *step: told.append(step))

    assert not told
