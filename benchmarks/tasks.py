"""What is measured: a network with its data and seed, and the recipes of it under recipes/."""

from dataclasses import dataclass, replace
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
class Another:
    """A network that is as good as the reference and was trained apart from it.

    Attributes
    ----------
    epochs : of fine-tuning as the reference is
    """

    callable: str
    weights: str
    epochs: int


@dataclass(frozen=True)
class Subject:
    """What a network is measured on.

    Attributes
    ----------
    file : its data, under --data
    layer : where SWA is taken, the last pooling output or feature map; an MLP has none
    explained : on how many test inputs maps are compared; fewer where one run takes long
    recipes : without matching and smallest; the control to the last; with matching
    seeds : one where training takes long
    another : whose maps are the retrain floor; None takes the reference of the next seed
    """

    file: str
    layer: str | None
    explained: int = 1000
    recipes: tuple[str, str, str] = RECIPES
    seeds: tuple[int, ...] = SEEDS
    another: Another | None = None


NETWORKS = {
    "lenet_300_100": Subject("mnist/mnist.npz", None),
    "lenet_5": Subject("mnist/mnist.npz", "pool2"),
    "ecg_1d": Subject("ecg5000/ecg5000.npz", "9"),
    "resnet_20": Subject(
        "cifar10/cifar10_train50k_jpg.npz",
        "layer3",
        explained=200,
        recipes=("deep_compression", "attribution_17x_unmatched", "attribution_17x"),
        seeds=(0,),
        another=Another("benchmarks.networks:resnet_32", "cifar10-resnets/resnet32.npz", epochs=1),
    ),
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
    source = _located(recipe.data.source, task.data)
    test = _located(recipe.data.test, task.data) if recipe.data.test else None
    changed: dict[str, Any] = {
        "seed": task.seed,
        "data": recipe.data.model_copy(update={"source": source, "test": test}),
    }
    if recipe.model.weights is not None:
        weights = _under(task.data, recipe.model.weights)
        changed["model"] = recipe.model.model_copy(update={"weights": weights})
    if task.quick:
        changed["steps"] = tuple(map(_shortened, recipe.steps))
        if recipe.reference is not None:
            changed["reference"] = _shortened(recipe.reference)
    return recipe.model_copy(update=changed)


def _under(data: Path, file: Path) -> Path:
    """Return where a recipe's FOLDER/FILE lies below --data."""
    return data / file.parent.name / file.name


def _located(section: SourceSection, data: Path) -> SourceSection:
    """Point a source to its file: an npz, or what a callable is given as ``file``."""
    if section.npz is not None:
        return section.model_copy(update={"npz": _under(data, section.npz)})
    file = _under(data, Path(section.arguments["file"]))
    return section.model_copy(update={"arguments": {**section.arguments, "file": str(file)}})


def _shortened(section: Any) -> Any:
    short = {
        key: value.model_copy(update={"epochs": 1}) for key, value in section if isinstance(value, FineTuning)
    }
    return section.model_copy(update=short)


def recipe_of(name: str, task: Task) -> Recipe:
    """Read one of the network's recipes with the task's seed and data."""
    return at(load_recipe(ROOT / "recipes" / task.network / f"{name}.yaml"), task)


def other_reference(task: Task) -> Recipe:
    """Return a recipe whose reference is as good as the task's and independent of it; its steps do not matter."""
    subject = NETWORKS[task.network]
    if subject.another is None:
        return recipe_of(subject.recipes[0], replace(task, seed=(task.seed + 1) % len(subject.seeds)))
    recipe = recipe_of(subject.recipes[0], task)
    made = {"callable": subject.another.callable, "weights": task.data / subject.another.weights}
    changed: dict[str, Any] = {"model": recipe.model.model_copy(update=made)}
    if recipe.reference is not None:
        tuning = recipe.reference.fine_tune.model_copy(update={"epochs": subject.another.epochs})
        changed["reference"] = recipe.reference.model_copy(update={"fine_tune": tuning})
    return recipe.model_copy(update=changed)
