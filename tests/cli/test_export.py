"""`clearweight export`: what it says before, after, and when the budget is missed."""

import dataclasses
import json

import pytest

from clearweight.artifact import Artifact
from clearweight.cli.export import TRAVELLERS, lines, percent, shortfall, summary, travellers
from clearweight.exporter.sections import CanarySection
from tests import small_digits


def test_the_canaries_that_travel_are_told_before():
    assert set(TRAVELLERS) == set(CanarySection.model_fields["source"].annotation.__args__)
    assert travellers(CanarySection(count=8)).startswith("8 real inputs of the calibration split travel")
    assert "{source: synthetic}" in travellers(CanarySection())
    assert "no real input does" in travellers(CanarySection(source="synthetic"))
    file = CanarySection(source="file", file={"npz": "probes.npz"})
    assert "inputs of probes.npz travel" in travellers(file)


def test_the_summary_is_the_artifacts_own_account(exported):
    facts = summary(exported)

    artifact = Artifact.open(exported.path)
    assert facts["device_bytes"] == artifact.device_bytes
    assert facts["packed_bytes"] == (exported.path / "weights.cwt").stat().st_size
    assert facts["ratio"] == pytest.approx(facts["reference_bytes"] / facts["packed_bytes"])
    assert facts["fidelity"] == "passed"
    assert json.loads(json.dumps(facts)) == facts


def test_people_read_the_same_figures(exported):
    facts = summary(exported)
    text = "\n".join(lines(facts))

    for key in ("reference_bytes", "packed_bytes", "device_bytes"):
        assert f"{facts[key]:,} B" in text
    assert str(exported.path) in text
    assert "another training" not in text
    assert "another training keeps 0.500" in "\n".join(lines(facts | {"retrain_floor": 0.5}))
    assert percent(None) == "n/a"


def test_the_reason_of_a_failed_fidelity_is_named(exported):
    good = exported.manifest.fidelity
    strict = dataclasses.replace(good, min_attribution_similarity=0.999, max_accuracy_drop=-1.0)

    assert "at least 0.999 is wanted; the accuracy falls by" in shortfall(strict)
    undefined = dataclasses.replace(good, undefined=good.samples)
    assert "keep a mean cosine of 0.000" in shortfall(undefined)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sede": 1}, "Unknown key 'sede'"),
        ({"model": {"callable": "user_no:net", "input_shape": [1, 8, 8]}}, "Cannot import module 'user_no'"),
        ({"data": {"source": {"npz": "none.npz"}}}, "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(command, tmp_path, changes, words):
    recipe = small_digits.write(tmp_path, **changes)

    found = command("export", recipe, "--out", tmp_path / "models")

    assert found.exit_code == 2
    assert words in found.stderr
    assert "Traceback" not in found.output
    assert not (tmp_path / "models").exists()


def test_a_backend_without_a_search_is_refused(command, tmp_path):
    recipe = small_digits.write(tmp_path)

    found = command("export", str(recipe), "--out", str(tmp_path / "models"), "--backend", "ray")

    assert found.exit_code == 2
    assert "--backend ray: the recipe has no section 'search'" in found.stderr
    assert not (tmp_path / "models").exists()


def test_a_recipe_that_is_not_there_is_bad_input(command, tmp_path):
    found = command("export", tmp_path / "none.yaml", "--out", tmp_path)

    assert found.exit_code == 2
    assert "none.yaml" in found.stderr


def stub(monkeypatch, exported):
    """Let the pipeline return what is there already."""
    calls = []

    def run(recipe, out, progress, **settings):
        calls.append((recipe, out, settings))
        progress("prune", 1, 1, 0.5)
        return exported

    monkeypatch.setattr("clearweight.exporter.pipeline.export", run)
    return calls


def test_options_reach_the_pipeline_and_standard_output_is_json_alone(
    command, exported, tmp_path, monkeypatch
):
    calls = stub(monkeypatch, exported)
    recipe = small_digits.write(tmp_path)

    code, facts = command.json(
        "export", recipe, "--out", tmp_path, "--overwrite", "--work", tmp_path / "work"
    )

    assert code == 0
    assert facts == summary(exported)
    ((_, out, settings),) = calls
    assert out == tmp_path
    assert settings["overwrite"] is True
    settings["checkpoints"].save("a", {})
    assert (tmp_path / "work").is_dir()


def test_a_missed_budget_is_exit_code_1_and_says_that_the_artifact_is_there(
    command, exported, tmp_path, monkeypatch
):
    record = dataclasses.replace(exported.manifest.fidelity, min_attribution_similarity=0.999, passed=False)
    failed = dataclasses.replace(exported, manifest=dataclasses.replace(exported.manifest, fidelity=record))
    stub(monkeypatch, failed)

    found = command("export", small_digits.write(tmp_path), "--out", tmp_path)

    assert found.exit_code == 1
    assert "Fidelity failed: the input_x_gradient maps keep a mean cosine of" in found.stderr
    assert "The artifact is written." in found.stderr
    assert "fidelity    failed" in found.stdout


def test_an_interruption_says_that_nothing_was_written(command, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clearweight.exporter.pipeline.export", interrupted)

    found = command("export", small_digits.write(tmp_path), "--out", tmp_path / "models")

    assert found.exit_code == 130
    assert found.stderr.endswith("interrupted; nothing was written\n")
