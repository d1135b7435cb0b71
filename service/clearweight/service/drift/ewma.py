"""Exponentially weighted moving average of a score, one-sided: distances only matter when they grow."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

WEIGHT = 0.02
"""Averages some hundred comparisons: with false alarms a month apart, limits on noisier averages lie so high that a
rise of 0.05 in the mean distance would never be found."""


def ewma_step(state: NDArray[np.float64], score: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return z_t = weight * s_t + (1 - weight) * z_{t-1}."""
    return state + weight * (score - state)


class Ewma:
    """Control chart z_t = w s_t + (1 - w) z_{t-1}, z_0 = the null's mean.

    Parameters
    ----------
    mean : float
        In-control mean of the score.
    weight : float in (0, 1]
        Weight of the newest score. Smaller finds smaller rises and takes longer over large ones.

    References
    ----------
    Roberts, Control chart tests based on geometric moving averages, Technometrics 1959.
    """

    name: ClassVar[str] = "ewma"

    def __init__(self, mean: float, weight: float = WEIGHT) -> None:
        self.start = mean
        self.weight = weight
        self.statistic = mean

    @property
    def key(self) -> tuple[str, float, float]:
        """What the chart's run length depends on."""
        return self.name, self.start, self.weight

    def step(self, state: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance many independent charts at once; used to solve limits."""
        return ewma_step(state, score, self.weight)

    def update(self, score: float) -> float:
        """Take one score and return the statistic."""
        self.statistic += self.weight * (score - self.statistic)
        return self.statistic
