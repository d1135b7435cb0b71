"""Every explainer of one model held against that model: faithfulness, steadiness, and the randomisation check.

A random map stands beside them: what it reaches is what chance reaches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from clearweight.exporter.evaluate import attribution
from clearweight.exporter.evaluate.attribution import Map, Targets, channels_innermost, over_channels
from clearweight.exporter.evaluate.compare import Maps
from clearweight.exporter.evaluate.faithfulness import deletion_auc, insertion_auc
from clearweight.exporter.evaluate.infidelity import infidelity
from clearweight.exporter.evaluate.max_sensitivity import max_sensitivity
from clearweight.exporter.evaluate.randomization import Randomization, randomization
from clearweight.exporter.evaluate.similarity import Values, mean
from clearweight.exporter.graph.plain import without_parametrizations

IMAGES = 16
RANDOM_MAP = "random_map"

CHECKED: Mapping[str, Callable[[nn.Module, Tensor, Targets], Map]] = MappingProxyType(
    {
        "input_x_gradient": attribution.input_x_gradient,
        "gradient": attribution.gradient,
        "integrated_gradients": attribution.integrated_gradients,
        "occlusion": attribution.occlusion,
    }
)
# Those that cost one backward pass a map: the others would take as long again as everything else together.
_CHEAP = ("input_x_gradient", "gradient")


@dataclass(frozen=True)
class Checked:
    """One explainer of one model: means over images, None where no image has a value or it was not measured."""

    deletion_auc: float | None
    insertion_auc: float | None
    infidelity: float | None
    max_sensitivity: float | None = None
    randomization: Randomization | None = None


def self_check(module: nn.Module, images: Tensor, maps: Maps) -> dict[str, Checked]:
    """Check the explainers of a model on the first 16 images.

    Parameters
    ----------
    images : those of ``maps``, of which the first 16 are looked at
    maps : from ``maps_of`` for the same model

    Returns
    -------
    explainer -> what was found, ``random_map`` last; max-sensitivity and randomisation only of explainers that take
    one backward pass
    """
    plain = channels_innermost(without_parametrizations(module))
    shown, targets = images[:IMAGES].detach().cpu(), maps.targets[:IMAGES]
    chance = np.random.default_rng(0).normal(size=maps.occlusion[:IMAGES].shape).astype(np.float32)
    known: dict[str, Map] = {name: getattr(maps, name)[:IMAGES] for name in CHECKED} | {RANDOM_MAP: chance}
    found = {}
    for name, own in known.items():
        explain = CHECKED.get(name) if name in _CHEAP else None
        found[name] = Checked(
            deletion_auc=mean(_deletion(plain, shown, maps, name, own)),
            insertion_auc=mean(insertion_auc(plain, shown, targets, own)),
            infidelity=mean(infidelity(plain, shown, targets, own)),
            max_sensitivity=None if explain is None else _steadiness(explain, plain, shown, targets),
            randomization=None if explain is None else _fall(explain, plain, shown, targets),
        )
    return found


def _deletion(module: nn.Module, images: Tensor, maps: Maps, name: str, own: Map) -> Values:
    if name == "input_x_gradient":  # measured already, on all images
        return maps.deletion_auc[: len(images)]
    return deletion_auc(module, images, maps.targets[: len(images)], own)


def _steadiness(
    explain: Callable[[nn.Module, Tensor, Targets], Map], module: nn.Module, images: Tensor, targets: Targets
) -> float | None:
    return mean(max_sensitivity(lambda x, c: over_channels(explain(module, x, c)), images, targets))


def _fall(
    explain: Callable[[nn.Module, Tensor, Targets], Map], module: nn.Module, images: Tensor, targets: Targets
) -> Randomization:
    return randomization(module, images, targets, lambda own, x, c: over_channels(explain(own, x, c)))
