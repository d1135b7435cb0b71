"""How strongly neighbouring live scores depend on one another: frames of a video do, calibration samples do not."""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.copula import GRID

WINDOW = 128
_WINDOWS = 40
_LEAST = 3
_STILL = 1e-6
"""Sum of squares below which a window holds one value and rounding."""
_CERTAIN = 3.75
"""Standard errors of a mean, or 3 of a median, above the shipped autocorrelation from which on the live one counts."""
_STEP = 0.05
_STRONGEST = 0.95


class LiveDependence:
    """Autocorrelation at lag 1 of the normal values behind live scores: the median over the newest windows.

    Every window has its own mean and variance, so that a change of level counts in the one window where it happens,
    and drift cannot pass for dependence. The bias of a window of m values, -(1 + 3 r) / m (Marriott and Pope,
    Biometrika 1954), is taken off.
    """

    def __init__(self, marginal: NDArray[np.float64]) -> None:
        self._marginal = marginal
        self._window: list[float] = []
        self.windows: deque[float] = deque(maxlen=_WINDOWS)

    def add(self, score: float) -> None:
        """Take the next score of the stream."""
        self._window.append(score)
        if len(self._window) < WINDOW:
            return
        values = np.interp(self._window, self._marginal, GRID)
        self._window.clear()
        values -= values.mean()
        power = float(values @ values)
        if power > _STILL:
            self.windows.append(float(values[1:] @ values[:-1]) / power)

    def above(self, shipped: float) -> float | None:
        """Return the live autocorrelation, rounded up, where it is above the shipped one for certain."""
        if len(self.windows) < _LEAST:
            return None
        live = (float(np.median(self.windows)) + 1.0 / WINDOW) / (1.0 - 3.0 / WINDOW)
        if live <= shipped + _CERTAIN / math.sqrt(len(self.windows) * WINDOW):
            return None
        return min(math.ceil(live / _STEP) * _STEP, _STRONGEST)
