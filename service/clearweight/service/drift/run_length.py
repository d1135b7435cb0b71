"""Control limits for a wanted false-alarm interval, by simulating the null.

Gaussian three-sigma limits on such skewed, autocorrelated scores would page every few minutes; the limit is read
from how high the chart climbs by itself.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.null import Null

CHAINS = 2048
STEPS = 1024
BURN_IN = 256


class Detector(Protocol):
    """What every chart in ``DETECTORS`` offers."""

    start: float
    statistic: float

    @property
    def key(self) -> Hashable:
        """What the chart's run length depends on."""

    def step(self, state: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advance many independent charts at once."""

    def update(self, score: float) -> float:
        """Take one score and return the statistic."""


@dataclass(frozen=True, eq=False)
class RunLengthCurve:
    """Sorted maxima of a chart over independent in-control blocks of ``steps`` samples."""

    maxima: NDArray[np.float64]
    steps: int

    def limit(self, samples: float) -> float:
        """Return the level crossed once per ``samples`` on average while nothing has drifted.

        Crossings are rare and nearly independent, so a block stays below h with probability
        F(h) = exp(-steps / interval(h)). Within the simulated range F is the empirical one; beyond it the log of
        the crossing rate is continued as a straight line in h, which for bounded scores errs to the quiet side.
        """
        wanted = -np.log(samples / self.steps)  # log of crossings per block
        count = self.maxima.size
        log_rate = np.log(-np.log((np.arange(count) + 0.5) / count))  # falls as the level rises
        rarest = float(log_rate[-(count // 200)])
        if wanted >= rarest:
            return float(np.interp(-wanted, -log_rate, self.maxima))
        tail = slice(-(count // 20), -(count // 200))
        levels, rates = self.maxima[tail], log_rate[tail]
        spread = float(levels[-1] - levels[0])
        if spread <= 0.0:
            return float(self.maxima[-1])
        slope = float((rates[0] - rates[-1]) / spread)
        return float(max(levels[-1] + (rates[-1] - wanted) / slope, self.maxima[-(count // 200)]))


def run_length_curve(detector: Detector, null: Null, seed: int = 0) -> RunLengthCurve:
    """Simulate one detector on its null; the same arguments give the same curve.

    Takes some tenths of a second, so keep it off the request path; a curve is computed once per process.
    """
    key = (detector.key, null.key, seed)
    curve = _SOLVED.get(key)
    if curve is None:
        if len(_SOLVED) >= _KEPT:
            _SOLVED.pop(next(iter(_SOLVED)))
        curve = _SOLVED[key] = _simulate(detector, null, seed)
    return curve


_SOLVED: dict[tuple[Hashable, Hashable, int], RunLengthCurve] = {}
_KEPT = 64


def _simulate(detector: Detector, null: Null, seed: int) -> RunLengthCurve:
    state = np.full(CHAINS, detector.start)
    highest = np.full(CHAINS, -np.inf)
    for index, scores in enumerate(null.streams(CHAINS, BURN_IN + STEPS, seed)):
        state = detector.step(state, scores)
        if index >= BURN_IN:
            np.maximum(highest, state, out=highest)
    return RunLengthCurve(np.sort(highest), STEPS)
