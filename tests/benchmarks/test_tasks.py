"""A task is a recipe with its seed and data put in, and shorter training where it is quick."""

from pathlib import Path

from benchmarks.tasks import Task, at, other_reference, recipe_of
from clearweight.exporter.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "recipes"


def test_a_task_sets_seed_and_data_and_a_quick_one_shortens_training(tmp_path):
    recipe = load_recipe(FOLDER / "lenet_5" / "deep_compression.yaml")

    changed = at(recipe, Task("lenet_5", 2, tmp_path, quick=True))

    assert changed.seed == 2
    assert changed.data.source.npz == tmp_path / "mnist" / "mnist.npz"
    assert [s.fine_tune.epochs for s in changed.steps if hasattr(s, "fine_tune")] == [1, 1]
    assert at(recipe, Task("lenet_5", 2, tmp_path, quick=False)).steps == recipe.steps


def test_every_file_of_a_task_lies_under_its_data(tmp_path):
    recipe = recipe_of("attribution_17x", Task("resnet_20", 0, tmp_path, quick=False))

    assert recipe.model.weights == tmp_path / "cifar10-resnets" / "resnet20.npz"
    assert recipe.data.source.arguments == {"file": str(tmp_path / "cifar10" / "cifar10_train50k_jpg.npz")}
    assert recipe.data.test.arguments == {"file": str(tmp_path / "cifar10" / "cifar10_test_jpg.npz")}


def test_the_retrain_floor_is_another_seeds_reference_or_another_network(tmp_path):
    lenet = other_reference(Task("lenet_5", 2, tmp_path, quick=False))
    resnet = other_reference(Task("resnet_20", 0, tmp_path, quick=False))

    assert (lenet.seed, lenet.model) == (
        0,
        recipe_of("deep_compression", Task("lenet_5", 0, tmp_path, False)).model,
    )
    assert resnet.model.callable == "benchmarks.networks:resnet_32"
    assert resnet.model.weights == tmp_path / "cifar10-resnets" / "resnet32.npz"
