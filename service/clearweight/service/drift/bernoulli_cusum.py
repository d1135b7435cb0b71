"""Cumulative sum of log likelihood ratios of a 0/1 event: finds that a rate has risen."""

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


class BernoulliCusum:
    """S_t = max(0, S_{t-1} + x ln(p1/p0) + (1 - x) ln((1 - p1)/(1 - p0))), S_0 = 0.

    Parameters
    ----------
    rate : float in (0, 0.5]
        In-control probability p0 of the event.
    shift : float
        The chart is tuned to the rate p1 = rate + max(rate, shift), at most 0.95.

    References
    ----------
    Reynolds and Stoumbos, A CUSUM chart for monitoring a proportion when inspecting continuously, Journal of
    Quality Technology 1999.
    """

    name: ClassVar[str] = "bernoulli_cusum"

    def __init__(self, rate: float, shift: float = 0.05) -> None:
        raised = min(rate + max(rate, shift), 0.95)
        self.start = 0.0
        self.gain = math.log(raised / rate)
        self.loss = math.log((1.0 - raised) / (1.0 - rate))
        self.statistic = 0.0

    @property
    def key(self) -> tuple[str, float, float]:
        """What the chart's run length depends on."""
        return self.name, self.gain, self.loss

    def step(self, state: NDArray[np.float64], event: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance many independent charts at once; used to solve limits."""
        advanced: NDArray[np.float64] = np.maximum(0.0, state + np.where(event > 0.0, self.gain, self.loss))
        return advanced

    def update(self, event: float) -> float:
        """Take one event (1) or its absence (0) and return the statistic."""
        self.statistic = max(0.0, self.statistic + (self.gain if event > 0.0 else self.loss))
        return self.statistic
