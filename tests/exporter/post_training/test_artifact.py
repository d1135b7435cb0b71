import numpy as np
import pytest

from clearweight.artifact import Artifact
from clearweight.artifact.errors import ArtifactExistsError
from clearweight.exporter.errors import DataError
from clearweight.exporter.own_model import prepare
from clearweight.exporter.post_training import Budget
from clearweight.exporter.post_training.artifact import CANARIES, Order, export_onnx
from tests.exporter.post_training.networks import cnn, exported, rows

ROW = (2, 10, 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    own, inputs = prepare(exported(cnn(), ROW)), rows(80, ROW)
    out = tmp_path_factory.mktemp("models")
    return own, inputs, out, export_onnx(own, inputs, Order("net", budget=Budget(0.01, 0.9)), out)


def test_the_artifact_opens_keeps_the_budget_and_is_smaller(made):
    _, _, _, result = made
    artifact = Artifact.open(result.path)
    book = artifact.manifest.ledger

    assert result.passed
    assert result.found.similarity >= 0.9
    assert result.found.logit_kl <= 0.01
    assert set(artifact.manifest.explainers) == {"gradient", "input_x_gradient", "gradcam"}
    assert artifact.manifest.fidelity.accuracy_drop is None
    assert artifact.manifest.compressed_quality.accuracy is None
    assert book.packed_bytes < 0.5 * book.reference_bytes


def test_canaries_are_inputs_that_the_statistics_did_not_see(made):
    _, inputs, _, result = made
    sent = Artifact.open(result.path).canaries().inputs

    assert np.array_equal(sent, inputs[1::2][:CANARIES])
    assert result.manifest.canaries.source == "calibration"


def test_a_version_that_is_there_is_refused_before_any_work(made):
    own, inputs, out, _ = made
    with pytest.raises(ArtifactExistsError):
        export_onnx(own, inputs, Order("net"), out)


def test_without_data_synthetic_probes_stand_in_and_travel(tmp_path):
    own = prepare(exported(cnn(), ROW))
    result = export_onnx(own, None, Order("net", budget=Budget(0.05, 0.8)), tmp_path)

    assert result.manifest.canaries.source == "synthetic"
    assert len(Artifact.open(result.path).canaries().inputs) == CANARIES


def test_a_budget_that_nothing_keeps_is_said(tmp_path):
    own = prepare(exported(cnn(), ROW))
    result = export_onnx(own, rows(16, ROW), Order("net", budget=Budget(0.0, 1.0)), tmp_path)

    assert not result.passed


def test_too_few_inputs_are_refused(tmp_path):
    with pytest.raises(DataError, match="3 inputs are given, expected 8 or more"):
        export_onnx(prepare(exported(cnn(), ROW)), rows(3, ROW), Order("net"), tmp_path)
