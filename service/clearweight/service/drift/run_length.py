"""Control limits for a wanted false-alarm interval, by rare-event simulation of the null.

Gaussian three-sigma limits on such skewed, autocorrelated scores would page every few minutes; and an alarm once in
millions of scores is never seen in a simulation of that length. So the way up is cut into levels: from states that
reached one level, new streams are started, and the share that reach the next before the chart is quiet again is
counted. The product of the shares is the rate of excursions that reach a level.

References
----------
Kahn and Harris, Estimation of particle transmission by random sampling, 1951. Garvels, The splitting method in rare
event simulation, thesis, Twente 2000 (fixed effort).
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.null import Null
from clearweight.service.drift.pace import breathe

CHAINS = 1024
STEPS = 1024
BURN_IN = 384
_SHARE = 0.15
"""Share of streams that should reach the next level; levels are spaced after it."""
_LONGEST = 5_000
"""Scores after which an excursion is given up."""
_EMPTY = 3


class Detector(Protocol):
    """What every chart in ``DETECTORS`` offers."""

    name: ClassVar[str]
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
    """Levels of a chart and how often an excursion from its start reaches them, per score and as a logarithm.

    An excursion begins where the chart leaves its start value and ends where it is back; one that reaches a limit is
    one alarm, however often it crosses.
    """

    levels: NDArray[np.float64]
    log_rates: NDArray[np.float64]

    def limit(self, samples: float) -> float:
        """Return the level reached once per ``samples`` scores on average while nothing has drifted.

        Beyond the simulated range it is the highest level that was looked for and not found.
        """
        return float(np.interp(np.log(samples), -self.log_rates, self.levels))


def run_length_curve(detector: Detector, null: Null, samples: float, seed: int = 0) -> RunLengthCurve:
    """Simulate one detector on its null; the same arguments give the same curve.

    Takes some tenths of a second, so keep it off the request path; a curve is computed once per process.

    Parameters
    ----------
    samples : the longest interval that the curve shall reach, rounded up to a power of ten
    """
    decades = max(math.ceil(math.log10(samples)), 2)
    key = (detector.key, null.key, decades, seed)
    curve = _SOLVED.get(key)
    if curve is None:
        if len(_SOLVED) >= _KEPT:
            _SOLVED.pop(next(iter(_SOLVED)), None)
        curve = _SOLVED[key] = _simulate(detector, null, 10.0**-decades, np.random.default_rng(seed))
    return curve


_SOLVED: dict[tuple[Hashable, Hashable, int, int], RunLengthCurve] = {}
_KEPT = 256


@dataclass(frozen=True, eq=False)
class _Streams:
    """Charts in the middle of their streams."""

    past: NDArray[np.float64]
    state: NDArray[np.float64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> "_Streams":
        return _Streams(self.past[:, which], self.state[which])


def _simulate(detector: Detector, null: Null, rarest: float, rng: "np.random.Generator") -> RunLengthCurve:
    entered, rate, spread = _departures(detector, null, rng)
    levels, log_rates = [detector.start], [float(np.log(max(rate, rarest)))]
    step, misses = spread, 0
    while rate > rarest and misses < _EMPTY and step > 0.0:
        reached, share = _climb(detector, null, rng, entered, levels[-1] + step)
        if not reached.state.size:
            # Bounded scores have a highest level: look nearer before giving up.
            step, misses = step / 2.0, misses + 1
            continue
        if share < 1.0:
            rate *= share
            levels.append(levels[-1] + step)
            log_rates.append(float(np.log(rate)))
            step *= float(np.clip(np.log(_SHARE) / np.log(share), 0.5, 2.0))
        else:
            levels[-1] += step
            step *= 2.0
        entered = reached
    levels.append(levels[-1] + step)
    log_rates.append(min(log_rates[-1] - 1.0, float(np.log(rarest))))
    return RunLengthCurve(np.array(levels), np.array(log_rates))


def _departures(detector: Detector, null: Null, rng: "np.random.Generator") -> tuple[_Streams, float, float]:
    """Return charts just above their start value, how often that happens per score, and their spread."""
    past, noise = null.begin(rng, CHAINS), null.noise
    state = np.full(CHAINS, detector.start)
    found: list[_Streams] = []
    count = 0
    for index in range(BURN_IN + STEPS):
        breathe()
        past, scores = null.advance(rng, past, noise)
        before, state = state, detector.step(state, scores)
        if index < BURN_IN:
            continue
        left = (before <= detector.start) & (state > detector.start)
        if left.any():
            count += int(left.sum())
            found.append(_Streams(past, state).take(left))
    if not found:
        return _Streams(past[:, :0], state[:0]), 0.0, float(state.std())
    entered = _Streams(
        np.concatenate([part.past for part in found], axis=1), np.concatenate([part.state for part in found])
    )
    spread = float(state.std()) or float(entered.state.mean() - detector.start)
    return entered, count / (CHAINS * STEPS), spread


def _climb(
    detector: Detector, null: Null, rng: "np.random.Generator", entered: _Streams, level: float
) -> tuple[_Streams, float]:
    """Start streams from ``entered`` and return those that reach ``level`` before the start value, and their share."""
    alive, noise = entered.take(rng.integers(0, entered.state.size, CHAINS)), null.noise
    found: list[_Streams] = []
    for _ in range(_LONGEST):
        breathe()
        there = alive.state >= level
        if there.any():
            found.append(alive.take(there))
        going = (alive.state > detector.start) & ~there
        if not going.all():
            alive = alive.take(going)
            if not alive.state.size:
                break
        past, scores = null.advance(rng, alive.past, noise)
        alive = _Streams(past, detector.step(alive.state, scores))
    if not found:
        return alive.take(np.zeros(alive.state.size, bool)), 0.0
    reached = _Streams(
        np.concatenate([part.past for part in found], axis=1), np.concatenate([part.state for part in found])
    )
    return reached, reached.state.size / CHAINS
