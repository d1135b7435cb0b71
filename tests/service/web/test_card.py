"""The card says what the manifest says, and no more than a page can show."""

import json
from dataclasses import replace

import pytest

from clearweight.artifact import Artifact
from clearweight.service.web.card import card


@pytest.fixture(scope="module")
def artifact(models) -> Artifact:
    return Artifact.open(models / "tiny" / "10")


def told(artifact, **changes):
    return card(replace(artifact.manifest, **changes), artifact.device_bytes, reference=False)


def test_sizes_accuracies_and_similarities_are_the_manifests(artifact):
    manifest, found = artifact.manifest, told(artifact)

    assert found["bytes"] == {
        "reference": manifest.ledger.reference_bytes,
        "packed": (artifact.path / "weights.cwt").stat().st_size,
        "device": artifact.device_bytes,
    }
    assert found["quality"]["compressed"]["accuracy"] == manifest.compressed_quality.accuracy
    for name, summary in manifest.fidelity.similarity.items():
        assert found["fidelity"]["similarity"][name] == summary.mean
    assert [one["method"] for one in found["explainers"]] == list(manifest.explainers)
    assert found["sha256"] == manifest.manifest_sha256


def test_it_can_be_written_as_json_without_a_rest(artifact):
    found = told(artifact)

    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_ledger_shows_the_largest_tensors_first_and_adds_up(artifact):
    ledger = artifact.manifest.ledger
    row = ledger.rows[0]
    many = tuple(replace(row, name=f"t{n}", bytes=n, nonzero=1, parameters=10) for n in range(100))

    shown = told(artifact, ledger=replace(ledger, rows=many))["ledger"]

    assert [entry["bytes"] for entry in shown[:3]] == [99, 98, 97]
    assert shown[-1]["name"] == "36 more"
    assert sum(entry["bytes"] for entry in shown) == sum(range(100))
    assert sum(entry["parameters"] for entry in shown) == 1000
    assert shown[0]["bits_per_weight"] == 8 * 99 / 10


def test_a_tensor_that_the_reference_does_not_have_has_no_bits_per_weight(artifact):
    ledger = artifact.manifest.ledger
    rows = (replace(ledger.rows[0], parameters=0),)

    assert told(artifact, ledger=replace(ledger, rows=rows))["ledger"][0]["bits_per_weight"] is None


def test_without_a_comparison_there_is_no_fidelity(artifact):
    assert told(artifact, fidelity=None)["fidelity"] is None


def test_nothing_in_it_stems_from_an_input(artifact):
    assert "canar" not in json.dumps(told(artifact))
