"""A task is a recipe with its seed and data put in, and shorter training where it is quick."""

from pathlib import Path

from benchmarks.tasks import Task, at
from clearweight.exporter.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "recipes"


def test_a_task_sets_seed_and_data_and_a_quick_one_shortens_training(tmp_path):
    recipe = load_recipe(FOLDER / "lenet_5" / "deep_compression.yaml")

    changed = at(recipe, Task("lenet_5", 2, tmp_path, quick=True))

    assert changed.seed == 2
    assert changed.data.source.npz == tmp_path / "mnist" / "mnist.npz"
    assert [s.fine_tune.epochs for s in changed.steps if hasattr(s, "fine_tune")] == [1, 1]
    assert at(recipe, Task("lenet_5", 2, tmp_path, quick=False)).steps == recipe.steps
