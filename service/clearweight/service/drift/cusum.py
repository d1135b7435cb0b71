"""Cumulative sum of a score, one-sided: the quickest chart for a rise of a given size."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


class Cusum:
    """S_t = max(0, S_{t-1} + s_t - reference), S_0 = 0, with the reference half the rise above the null's mean.

    Beside the EWMA because it forgets nothing while scores stay high and everything once they are normal: no other
    chart with the same false-alarm interval finds a rise of exactly this size sooner in the worst case
    (Moustakides 1986), where an average needs its memory to fit the rise.

    Parameters
    ----------
    mean : float
        In-control mean of the score.
    rise : float
        Rise of the mean that is to be found.
    floor : float
        Scores below it are within the runtime's own noise and never add up.

    References
    ----------
    Page, Continuous inspection schemes, Biometrika 1954. Moustakides, Optimal stopping times for detecting changes
    in distributions, Annals of Statistics 1986.
    """

    name: ClassVar[str] = "cusum"

    def __init__(self, mean: float, rise: float, floor: float = 0.0) -> None:
        self.start = 0.0
        self.reference = max(mean + rise / 2.0, floor)
        self.statistic = 0.0

    @property
    def key(self) -> tuple[str, float]:
        """What the chart's run length depends on."""
        return self.name, self.reference

    def step(self, state: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance many independent charts at once; used to solve limits."""
        advanced: NDArray[np.float64] = np.maximum(0.0, state + (score - self.reference))
        return advanced

    def update(self, score: float) -> float:
        """Take one score and return the statistic."""
        self.statistic = max(0.0, self.statistic + (score - self.reference))
        return self.statistic
