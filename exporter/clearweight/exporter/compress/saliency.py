"""What a weight is worth: the criteria by which pruning chooses.

All but magnitude estimate a distortion, the loss that dropping the weight costs. The second-order ones are of the form
of Optimal Brain Damage (LeCun, Denker, Solla, NeurIPS 1989): squared weight times curvature, with the statistics of
`clearweight.exporter.importance` as curvature.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from clearweight.exporter.compress.constraint import free_value
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.importance import Importance, Statistic

Criterion = Literal[
    "magnitude",
    "first_order",
    "gradient",
    "gradient_hessian",
    "fisher",
    "attribution",
    "output_and_attribution",
]
# Weight, its statistics, and the share of attribution in the sum -> saliency; all tensors of one shape.
Formula = Callable[[Tensor, dict[Statistic, Tensor], float], Tensor]


@dataclass(frozen=True)
class Rule:
    """A criterion that is computed from the present weight and declared statistics."""

    needs: frozenset[Statistic]
    formula: Formula


def _gradient(w: Tensor, by: dict[Statistic, Tensor], _share: float) -> Tensor:
    return w.square() * by["gradient"]


def _gradient_hessian(w: Tensor, by: dict[Statistic, Tensor], _share: float) -> Tensor:
    return w.square() * by["gradient"] + w.square().square() * by["hessian"] / 4


def _fisher(w: Tensor, by: dict[Statistic, Tensor], _share: float) -> Tensor:
    return w.square() * by["fisher"] / 2


def _attribution(w: Tensor, by: dict[Statistic, Tensor], _share: float) -> Tensor:
    return w.square() * by["attribution"]


def _both(w: Tensor, by: dict[Statistic, Tensor], share: float) -> Tensor:
    return _fisher(w, by, share) + share * _attribution(w, by, share)


RULES: dict[str, Rule] = {
    "magnitude": Rule(frozenset(), lambda w, _by, _share: w.abs()),
    "gradient": Rule(frozenset({"gradient"}), _gradient),
    "gradient_hessian": Rule(frozenset({"gradient", "hessian"}), _gradient_hessian),
    "fisher": Rule(frozenset({"fisher"}), _fisher),
    "attribution": Rule(frozenset({"attribution"}), _attribution),
    "output_and_attribution": Rule(frozenset({"fisher", "attribution"}), _both),
}


class FirstOrderSaliency:
    """Running mean of ``(w dL/dw)^2``, the squared first-order change of the loss when the weight is dropped."""

    def __init__(self, model: nn.Module, names: list[str], decay: float) -> None:
        self._free = {name: free_value(model, name) for name in names}
        self._decay = decay
        self._mean: dict[str, Tensor] = {}

    def update(self) -> None:
        """Take the gradients of the last backward pass in."""
        for name, weight in self._free.items():
            if weight.grad is None:
                continue
            now = (weight.detach() * weight.grad).square()
            mean = self._mean.setdefault(name, torch.zeros_like(now))
            mean.mul_(self._decay).add_(now, alpha=1.0 - self._decay)

    def values(self) -> dict[str, Tensor]:
        """Return the saliency of every weight; names without a gradient yet score zero."""
        return {name: self._mean.get(name, torch.zeros_like(w.detach())) for name, w in self._free.items()}


class SecondOrderSaliency:
    """Squared weight times curvature: the weight of now, the curvature of the last `measure`."""

    def __init__(
        self, model: nn.Module, names: list[str], rule: Rule, share: float, *, count: int, bench: Workbench
    ) -> None:
        self._model = model
        self._free = {name: free_value(model, name) for name in names}
        self._rule = rule
        self._share = share
        self._count = count
        self._bench = bench
        self._draws = Generator().manual_seed(bench.runtime.seed + 2)
        self._known: Importance = {}

    def measure(self) -> None:
        """Collect the declared statistics of the model as it is now.

        Raises
        ------
        ConstraintError
            A weight stands in another one's place (a factor), where these statistics are not taken.
        """
        if not self._rule.needs:
            return
        self._known = self._bench.importance(self._model, self._rule.needs, self._count, self._draws)
        known = next(iter(self._known.values()))
        if strange := [name for name in self._free if name not in known]:
            raise ConstraintError(
                f"{strange[0]!r} is not a weight of the network itself, which second-order criteria judge. "
                "Prune it by magnitude or first_order."
            )

    def values(self) -> dict[str, Tensor]:
        """Return the saliency of every weight."""
        return {
            name: self._rule.formula(
                w.detach(), {k: by[name].to(w.device) for k, by in self._known.items()}, self._share
            )
            for name, w in self._free.items()
        }
