"""Training through a quantizer: the network computes with quantized values, free ones learn from their gradients.

The straight-through estimator (Bengio, Leonard, Courville, Estimating or Propagating Gradients Through Stochastic
Neurons, 2013) with the entropy-constrained quantizer: symbols are chosen anew after every step, their values and code
lengths now and then, and the multiplier follows such that the rate stays.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from clearweight.exporter.compress.rate_quantizer import Floats, Quantized, code_lengths, entropy_bits

# Steps between two estimates of the symbols, and the factor by which the multiplier may follow then.
EVERY = 25
FOLLOWING = 1.02


class StraightThrough:
    """Hold quantized values in the network's parameters, and the free ones beside them.

    What the optimizer adds to a quantized value is added to its free one, and the parameter becomes what that is
    quantized to.

    Parameters
    ----------
    free : name -> the parameter that trains
    masks : name -> which of its entries are alive; None for all
    start : name -> how the values are quantized now
    importances : name -> float64, (n,), what a squared error costs
    multiplier : distortion that one bit is worth, to begin with
    bits_per_weight : entropy to keep, places included
    """

    def __init__(
        self,
        free: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | None],
        start: Mapping[str, Quantized],
        importances: Mapping[str, Floats],
        multiplier: float,
        bits_per_weight: float,
    ) -> None:
        self._free = free
        self._dead = {name: None if mask is None else ~mask.flatten() for name, mask in masks.items()}
        self._kept = {name: value.detach().clone() for name, value in free.items()}
        self._worth = {n: torch.from_numpy(importances[n]).to(v).flatten() for n, v in free.items()}
        self._books = {n: torch.from_numpy(start[n].codebook).to(v) for n, v in free.items()}
        self._chosen = {n: torch.from_numpy(start[n].indices).to(v.device) for n, v in free.items()}
        self._lengths = {name: self._length(name) for name in free}
        self._multiplier = multiplier
        self._budget = bits_per_weight * sum(value.numel() for value in free.values())
        self._show()

    def step(self, step: int, _steps: int) -> None:
        """Move the free values by what the optimizer did to the quantized ones, and quantize again."""
        with torch.no_grad():
            for name, free in self._free.items():
                self._kept[name] += free - self._books[name][self._chosen[name]].view_as(free)
            if step % EVERY == 0:
                self._estimate()
                self._multiplier *= FOLLOWING if self._bits() > self._budget else 1 / FOLLOWING
        self._show()

    def quantized(self) -> dict[str, Quantized]:
        """Return what the network computes with, brought below the rate by a dearer bit where it is above."""
        while self._bits() > self._budget:
            self._multiplier *= FOLLOWING
            self._lengths = {name: self._length(name) for name in self._free}
            self._show()
        return {
            name: Quantized(book.cpu().double().numpy(), self._chosen[name].cpu().numpy())
            for name, book in self._books.items()
        }

    def _length(self, name: str) -> Tensor:
        counts = torch.bincount(self._chosen[name], minlength=len(self._books[name])).clamp(min=1)
        return torch.from_numpy(code_lengths(counts.cpu().numpy())).to(self._books[name])

    def _bits(self) -> float:
        return sum(entropy_bits(chosen.cpu().numpy()) for chosen in self._chosen.values())

    def _estimate(self) -> None:
        """Move every symbol but zero to the weighted mean of its free values, and count anew."""
        for name, book in self._books.items():
            chosen, worth = self._chosen[name], self._worth[name]
            weights = torch.bincount(chosen, worth, len(book))
            sums = torch.bincount(chosen, worth * self._kept[name].flatten(), len(book))
            means = torch.where(weights > 0, sums / weights, book)
            means[0] = 0.0
            self._books[name] = means
            self._lengths[name] = self._length(name)

    def _show(self) -> None:
        """Put the cheapest symbol of every free value into the network."""
        with torch.no_grad():
            for name, free in self._free.items():
                error = (self._kept[name].flatten()[:, None] - self._books[name]).square()
                cost = error * self._worth[name][:, None] + self._multiplier * self._lengths[name]
                chosen = cost.argmin(1)
                if (dead := self._dead[name]) is not None:
                    chosen[dead] = 0
                self._chosen[name] = chosen
                free.copy_(self._books[name][chosen].view_as(free))
