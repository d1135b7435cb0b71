from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import Artifact
from clearweight.service.drift import check_fidelity
from tests.service import artifacts


@pytest.fixture(scope="module")
def artifact(models):
    opened = Artifact.open(models / "tiny" / "10")
    return opened.manifest.fidelity, opened.canaries()


def test_an_honest_record_within_its_budget_passes(artifact):
    record, canaries = artifact
    report = check_fidelity(record, canaries)

    a, b = (
        maps.astype(np.float64).reshape(16, -1)
        for maps in (canaries.maps_reference, canaries.maps_compressed)
    )
    slow = np.mean([p @ q / np.sqrt((p @ p) * (q @ q)) for p, q in zip(a, b, strict=True)])
    assert report.state == "passed"
    assert report.reason == ""
    assert report.canary_cosine == pytest.approx(slow)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"min_attribution_similarity": 0.9999}, "below the budget"),
        ({"accuracy_drop": 0.02}, "Accuracy dropped"),
        ({"accuracy_drop": float("nan")}, "Accuracy dropped"),
        ({"passed": False}, "record says failed"),
        ({"similarity": {}}, "below the budget"),
    ],
)
def test_the_level_test_is_recomputed_from_the_numbers(artifact, change, text):
    record, canaries = artifact
    report = check_fidelity(replace(record, **change), canaries)

    assert report.state == "failed"
    assert text in report.reason


def test_no_accuracy_means_no_accuracy_test(artifact):
    record, canaries = artifact

    assert check_fidelity(replace(record, accuracy_drop=None), canaries).state == "passed"


def test_a_record_that_flatters_is_contradicted_by_the_canaries(artifact, tmp_path):
    record, _ = artifact
    shallow = Artifact.open(artifacts.write(tmp_path, share=0.8)).canaries()

    report = check_fidelity(replace(record, min_attribution_similarity=0.9), shallow)

    assert report.state == "failed"
    assert "canaries" in report.reason
    assert report.canary_cosine < report.canary_bound


def test_without_a_record_fidelity_is_not_measured(artifact):
    assert check_fidelity(None, artifact[1]).state == "not_measured"
