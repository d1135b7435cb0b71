"""The objective: a weighted sum of terms over one evaluation of the batch."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from clearweight.exporter.errors import RecipeError
from clearweight.exporter.objective.term import Batch, Needs
from clearweight.exporter.objective.view import view


class Term(Protocol):
    """One thing that fine-tuning preserves."""

    weight: float
    needs: Needs

    def loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Scalar loss of one batch."""
        ...


def resolved(needs: Needs, reference: nn.Module) -> Needs:
    """Return ``needs`` with patterns of modules replaced by the names that they match in ``reference``.

    Raises
    ------
    RecipeError
        A pattern, or a name, matches no module.
    """
    known = [name for name, _ in reference.named_modules() if name]
    names: set[str] = set()
    for pattern in sorted(needs.features):
        found = fnmatch.filter(known, pattern)
        if not found:
            raise RecipeError(
                f"The model has no module {pattern!r} to match at. Its modules: {', '.join(known)}."
            )
        names.update(found)
    return replace(needs, features=frozenset(names))


class Objective:
    """What every fine-tuning step preserves: the same terms while masks are chosen and while centroids move.

    Parameters
    ----------
    reference : the uncompressed network, in evaluation mode; it is never trained
    terms : at least one
    input_noise : largest standard deviation of Gaussian noise on the inputs, drawn per sample from [0, input_noise].
        Inputs that are constant over the data (an image's border) have gradients that no clean sample tests; the
        noise makes the objective, and with it the first-order saliency, see them.
    """

    def __init__(self, reference: nn.Module, terms: Sequence[Term], *, input_noise: float = 0.0) -> None:
        self.reference = reference
        self.input_noise = input_noise
        self.terms = tuple(terms)
        self.needs = resolved(reduce(or_, (term.needs for term in terms), Needs()), reference)

    def loss(
        self,
        student: nn.Module,
        forward: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        generator: Generator,
    ) -> Tensor:
        """Weighted sum of the terms on one batch.

        Parameters
        ----------
        student : the network being compressed
        forward : how to call it (possibly wrapped for several processes)
        inputs : (n, *shape) float
        labels : (n,) int64
        generator : randomness of the terms that draw (SSWA)
        """
        inputs = self.noisy(inputs, generator)
        aim = view(self.reference, self.reference, inputs, self.needs, keep_graph=False)
        own = view(student, forward, inputs, self.needs, target=aim.logits.argmax(1), keep_graph=True)
        batch = Batch(labels=labels, student=own, reference=aim)
        losses = [term.weight * term.loss(batch, generator) for term in self.terms]
        return reduce(lambda total, loss: total + loss, losses)

    def noisy(self, inputs: Tensor, generator: Generator) -> Tensor:
        """Return ``inputs`` as the objective sees them: with noise drawn from ``generator``, if there is any."""
        if not self.input_noise:
            return inputs
        spread = torch.rand(len(inputs), *[1] * (inputs.ndim - 1), generator=generator) * self.input_noise
        return inputs + (torch.randn(inputs.shape, generator=generator) * spread).to(inputs.device)
