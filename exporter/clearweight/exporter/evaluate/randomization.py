"""The weight-randomisation sanity check: a map that outlives the weights explains something else.

Layers are given fresh random weights one after another, from the output down, each time leaving those above random
(cascading randomisation; Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3). After each,
the maps of the same classes are compared with the trained model's. They must fall apart; where they stay alike, the
explainer shows the input or the architecture. (Input x gradient is zero wherever the input is, so a remainder is
expected where many inputs are.)
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clearweight.exporter.evaluate.attribution import Map, Targets
from clearweight.exporter.evaluate.similarity import mean, spearman, ssim

STAGES = 8


@dataclass(frozen=True)
class Randomization:
    """How alike maps stay to the trained model's; entry k after the first k stages, entry 0 before any.

    Attributes
    ----------
    layers : the layer at which each stage ends, from the output down; "" for entry 0
    spearman, ssim : means over images, None where no image has a value
    """

    layers: tuple[str, ...]
    spearman: tuple[float | None, ...]
    ssim: tuple[float | None, ...]

    @property
    def remaining(self) -> float | None:
        """Mean rank correlation once every layer is random; None of a model without layers that can be drawn anew."""
        return self.spearman[-1] if len(self.layers) > 1 else None


def randomization(
    module: nn.Module,
    images: Tensor,
    targets: Targets,
    explain: Callable[[nn.Module, Tensor, Targets], Map],
    *,
    stages: int = STAGES,
    seed: int = 0,
) -> Randomization:
    """Randomise a copy of a model from the top and watch its maps.

    Parameters
    ----------
    module : not changed
    explain : ``(module, images, targets) -> maps`` (N, *space), channels summed
    stages : at most so many comparisons; where there are more layers, several are randomised at once
    """
    own = copy.deepcopy(module)
    aim = explain(own, images, targets)
    layers = layers_by_use(own, images[:1])[::-1]
    ends = sorted({round(k * len(layers) / stages) for k in range(1, stages + 1)} - {0})
    names, ranks, structures = [""], [mean(spearman(aim, aim))], [mean(ssim(aim, aim))]
    start = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for end in ends:
            for _, layer in layers[start:end]:
                layer.reset_parameters()  # type: ignore[operator]  # layers_by_use lists those that have it
            start = end
            found = explain(own, images, targets)
            names.append(layers[end - 1][0])
            ranks.append(mean(spearman(aim, found)))
            structures.append(mean(ssim(aim, found)))
    return Randomization(tuple(names), tuple(ranks), tuple(structures))


def layers_by_use(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module]]:
    """List the layers with weights that can be drawn anew, in the order in which the model uses them first."""
    able = {
        name: part
        for name, part in module.named_modules()
        if callable(getattr(part, "reset_parameters", None))
        and next(part.parameters(recurse=False), None) is not None
    }
    used: dict[str, nn.Module] = {}

    def note(name: str, part: nn.Module) -> None:
        used.setdefault(name, part)

    hooks = [
        part.register_forward_hook(lambda part, _inputs, _output, name=name: note(name, part))
        for name, part in able.items()
    ]
    try:
        with torch.inference_mode():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return list(used.items())
