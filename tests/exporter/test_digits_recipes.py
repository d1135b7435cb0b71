"""Every recipe under recipes/digits does what it says, from the training of the reference to an artifact that opens."""

from pathlib import Path

import pytest

from clearweight.artifact import Artifact
from clearweight.exporter.pipeline import export
from clearweight.exporter.recipe import load_recipe
from clearweight.exporter.training import FineTuning

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "digits").glob("*.yaml"))
CONTROLS = [path for path in RECIPES if path.stem.endswith("_control")]


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_keeps_its_budget(path, tmp_path):
    made = export(load_recipe(path), tmp_path)

    manifest = Artifact.open(made.path).manifest
    assert manifest.fidelity.passed
    parameters = sum(p.numel() for p in made.prepared.reference.parameters())
    assert manifest.ledger.reference_bytes == 4 * parameters
    assert manifest.ledger.packed_bytes < manifest.ledger.reference_bytes / 3


def epochs(step):
    return sum(phase.epochs for _, phase in step if isinstance(phase, FineTuning))


@pytest.mark.parametrize("path", CONTROLS, ids=lambda path: path.stem)
def test_a_control_differs_in_its_steps_alone_and_trains_as_long(path):
    control = load_recipe(path)
    recipe = load_recipe(path.with_stem(path.stem.removesuffix("_control")))

    same = {"name", "steps", "fidelity"}
    assert control.model_dump(exclude=same) == recipe.model_dump(exclude=same)
    assert control.steps != recipe.steps
    assert sum(map(epochs, control.steps)) == sum(map(epochs, recipe.steps))
