"""What every compressed form of one reference is held against: its own maps, and those of another training."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from torch import Tensor, nn

from benchmarks.corruptions import corrupted
from benchmarks.tasks import NETWORKS, Task, other_reference, recipe_of
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.data import Labelled
from clearweight.exporter.evaluate import Maps, compare_maps, maps_of, reference_maps
from clearweight.exporter.preparation import prepare
from clearweight.exporter.training import silent

Figures = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What every compressed form of one reference is measured against.

    Attributes
    ----------
    pixels : the images that are explained
    layer : where SWA is taken
    aim : the reference's maps of its own top classes
    other : an equally good, independent network
    retrain : its maps of the same images and classes
    corrupted : the same for corrupted forms of the images, which no objective saw; None for other inputs than images
    """

    pixels: Tensor
    layer: str | None
    aim: Maps
    other: nn.Module
    retrain: Maps
    corrupted: "Yardstick | None" = None

    @property
    def floor(self) -> Figures:
        """What an equally good network has in common with the reference."""
        return self.similarity(self.retrain)

    def similarity(self, own: Maps) -> Figures:
        """Every row that maps alone decide."""
        return asdict(compare_maps(self.aim, own))

    def on_corrupted(self, model: nn.Module) -> Figures:
        """How alike the maps of corrupted images are; empty where there are none."""
        if (worn := self.corrupted) is None:
            return {}
        figures = worn.similarity(maps_of(model, worn.pixels, worn.aim.targets, worn.layer))
        return {f"{name}_corrupted": value for name, value in figures.items() if name.startswith("cosine_")}


def yardstick_of(task: Task, kept: Checkpoints) -> Yardstick:
    """Train or load the references of this seed and the next, and explain with both."""
    subject = NETWORKS[task.network]
    layer = subject.layer
    prepared = prepare(recipe_of(subject.recipes[0], task), silent, kept)
    other = prepare(other_reference(task), silent, kept).reference

    def held(shown: Labelled) -> Yardstick:
        pixels = prepared.inputs(shown)
        aim = reference_maps(prepared.reference, pixels, layer)
        return Yardstick(pixels, layer, aim, other, maps_of(other, pixels, aim.targets, layer))

    shown = prepared.test[: 100 if task.quick else subject.explained]
    if shown.inputs.ndim != 4 or shown.inputs.dtype != np.uint8:
        return held(shown)
    return replace(held(shown), corrupted=held(replace(shown, inputs=corrupted(shown.inputs))))
