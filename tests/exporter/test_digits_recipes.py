"""Every recipe under recipes/digits does what it says, from the training of the reference to an artifact that opens."""

from pathlib import Path

import pytest

from clearweight.artifact import Artifact
from clearweight.exporter.pipeline import export
from clearweight.exporter.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "digits").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_keeps_its_budget(path, tmp_path):
    made = export(load_recipe(path), tmp_path)

    manifest = Artifact.open(made.path).manifest
    assert manifest.fidelity.passed
    parameters = sum(p.numel() for p in made.prepared.reference.parameters())
    assert manifest.ledger.reference_bytes == 4 * parameters
    assert manifest.ledger.packed_bytes < manifest.ledger.reference_bytes / 3
