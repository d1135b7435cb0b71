"""Exponentially weighted moving average of a score, one-sided: distances only matter when they grow."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

LIGHTEST, HEAVIEST = 0.01, 0.25
_SIGMAS = 5.0
"""Where a limit with false alarms a month apart comes to lie, in deviations of the chart."""


def ewma_weight(deviation: float, rise: float) -> float:
    """Return the weight with which a limit comes to lie half of ``rise`` above the mean, were scores normal.

    A heavier one has limits so high that the rise is never found, a lighter one takes longer to reach them. The chart's
    deviation is sigma sqrt(w / (2 - w)); five of them are set equal to half the rise.

    Parameters
    ----------
    deviation : of independent scores; of dependent ones, times the square root of ``persistence``
    """
    if deviation <= 0.0:
        return HEAVIEST
    share = (rise / (2.0 * _SIGMAS * deviation)) ** 2
    return min(max(2.0 * share / (1.0 + share), LIGHTEST), HEAVIEST)


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
    Roberts, Control chart tests based on geometric moving averages, Technometrics 1959. Lucas and Saccucci,
    Exponentially weighted moving average control schemes, Technometrics 1990 (choice of the weight).
    """

    name: ClassVar[str] = "ewma"

    def __init__(self, mean: float, weight: float) -> None:
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
