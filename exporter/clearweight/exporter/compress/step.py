"""What a compression step is: a typed config, a promise, and an `apply` that puts constraints on a model."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Generator, nn

from clearweight.exporter.importance import Importance, Statistic, chosen, importance
from clearweight.exporter.objective import Objective
from clearweight.exporter.training import FineTuning, Loss, Runtime, Samples, fit


@dataclass(frozen=True)
class Workbench:
    """What a step works with, beside the model.

    Attributes
    ----------
    samples : the fitting split; no step sees another one
    objective : what fine-tuning preserves
    """

    samples: Samples
    objective: Objective
    runtime: Runtime

    def loss(self, model: nn.Module) -> Loss:
        """Return the whole objective as a loss of ``model``."""
        return lambda forward, inputs, labels, draws: self.objective.loss(
            model, forward, inputs, labels, draws
        )

    def importance(
        self, model: nn.Module, wanted: frozenset[Statistic], count: int, draws: Generator
    ) -> Importance:
        """Collect the wanted statistics of ``model`` in one walk over ``count`` drawn samples.

        The inputs carry the objective's noise, and the explained class is the reference's, as in fine-tuning.
        """
        drawn = chosen(self.samples, count, draws)
        samples = Samples(self.objective.noisy(drawn.inputs, draws), drawn.labels)
        with torch.no_grad():
            targets = self.objective.reference.cpu()(samples.inputs).argmax(1)
        return importance(model, samples, wanted, draws, targets=targets)

    def fine_tune(self, model: nn.Module, config: FineTuning, what: str, **hooks: Any) -> None:
        """Train ``model`` under the whole objective (see `training.fit`)."""
        fit(model, self.samples, self.loss(model), config, self.runtime, what=what, **hooks)


class Step(Protocol):
    """One compression method applied to a model in place."""

    name: ClassVar[str]

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Put the method's constraints on ``model`` and fine-tune under them."""
        ...

    def ensure(self, model: nn.Module) -> None:
        """Check what the step promises.

        Raises
        ------
        ConstraintError
            The promise does not hold.
        """
        ...
