"""What is measured: a network with its data and seed, and the recipes of it under recipes/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearweight.exporter.recipe import Recipe, load_recipe
from clearweight.exporter.sections import SourceSection
from clearweight.exporter.training import FineTuning

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "benchmarks"
UNMATCHED, MATCHED = "deep_compression_unmatched", "deep_compression_matched"
RECIPES = ("deep_compression", UNMATCHED, MATCHED)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Subject:
    """What a network is measured on.

    Attributes
    ----------
    file : its data, under --data
    layer : where SWA is taken, the last pooling output or feature map; an MLP has none
    explained : on how many test inputs maps are compared; fewer where one run takes long
    """

    file: str
    layer: str | None
    explained: int = 1000


NETWORKS = {
    "lenet_300_100": Subject("mnist/mnist.npz", None),
    "lenet_5": Subject("mnist/mnist.npz", "pool2"),
    "ecg_1d": Subject("ecg5000/ecg5000.npz", "9"),
}


@dataclass(frozen=True)
class Task:
    """One network from one seed with every recipe and control."""

    network: str
    seed: int
    data: Path
    quick: bool


def at(recipe: Recipe, task: Task) -> Recipe:
    """Return the recipe with the task's seed and data; a quick run trains one epoch per step."""
    file = task.data / NETWORKS[task.network].file
    source = _located(recipe.data.source, file)
    test = _located(recipe.data.test, file) if recipe.data.test else None
    changed = {"seed": task.seed, "data": recipe.data.model_copy(update={"source": source, "test": test})}
    if task.quick:
        changed["steps"] = tuple(map(_shortened, recipe.steps))
        if recipe.reference is not None:
            changed["reference"] = _shortened(recipe.reference)
    return recipe.model_copy(update=changed)


def _located(section: SourceSection, file: Path) -> SourceSection:
    """Point a source to its file: an npz, or what a callable is given as ``file``."""
    if section.npz is not None:
        return section.model_copy(update={"npz": file})
    return section.model_copy(update={"arguments": {**section.arguments, "file": str(file)}})


def _shortened(section: Any) -> Any:
    short = {
        key: value.model_copy(update={"epochs": 1}) for key, value in section if isinstance(value, FineTuning)
    }
    return section.model_copy(update=short)


def recipe_of(name: str, task: Task) -> Recipe:
    """Read one of the network's recipes with the task's seed and data."""
    return at(load_recipe(ROOT / "recipes" / task.network / f"{name}.yaml"), task)
