"""The stream of scores to expect while nothing has drifted, rebuilt from the null the artifact ships.

Scores are skewed and autocorrelated, so the stream is a Gaussian copula: an AR(1) process with normal marginals,
each value sent through the calibration quantiles. Its autocorrelation is solved so that the *scores* have the
measured lag-1 value, not the normal process behind them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import NullDistribution

_GRID = np.linspace(-6.0, 6.0, 2401)
_GRID_P = np.array([0.5 * math.erfc(-float(u) / math.sqrt(2.0)) for u in _GRID])
_TERMS = 24


@dataclass(frozen=True, eq=False)
class Null:
    """A marginal distribution on a grid of standard normal values, and the score autocorrelation at lag 1."""

    marginal: NDArray[np.float64]
    autocorrelation: float

    @property
    def key(self) -> tuple[bytes, float]:
        """The whole content, for caching what was simulated from it."""
        return self.marginal.tobytes(), self.autocorrelation

    def streams(self, chains: int, steps: int, seed: int) -> Iterator[NDArray[np.float64]]:
        """Yield ``steps`` arrays of ``chains`` scores each, stationary from the first."""
        rng = np.random.default_rng(seed)
        rho = normal_autocorrelation(self.marginal, self.autocorrelation)
        state = rng.standard_normal(chains)
        for _ in range(steps):
            yield np.interp(state, _GRID, self.marginal)
            state = rho * state + np.sqrt(1.0 - rho**2) * rng.standard_normal(chains)


def score_null(shipped: NullDistribution) -> Null:
    """Build the null of a distance from its 101 quantiles.

    A calibration of n samples leaves a share of about 1 / (n + 1) unseen above its maximum; that share is taken
    to reach as far beyond the maximum as the maximum lies above the 95 % point. Small calibrations thus get wider
    limits by themselves.
    """
    quantiles = np.asarray(shipped.quantiles, dtype=np.float64)
    seen = shipped.samples / (shipped.samples + 1.0)
    probabilities = np.append(np.linspace(0.0, seen, quantiles.size), 1.0)
    values = np.append(quantiles, 2.0 * quantiles[-1] - quantiles[95])
    return Null(np.interp(_GRID_P, probabilities, values), _lag1(shipped))


def event_null(rate: float, autocorrelation: float = 0.0) -> Null:
    """Build the null of a 0/1 event that happens with probability ``rate``."""
    return Null((1.0 - rate < _GRID_P).astype(np.float64), autocorrelation)


def event_rate_bound(events: float, samples: int) -> float:
    """Return the upper 95 % Wilson bound of an event rate, never 0 and never above one half.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    z, n = 1.645, float(samples)
    p = events / n
    bound = (p + z * z / (2 * n) + z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5) / (1 + z * z / n)
    return float(min(bound, 0.5))


def mean_error(shipped: NullDistribution) -> float:
    """Return the standard error of the null's mean, with the effective sample size of an AR(1) series."""
    rho = _lag1(shipped)
    return float(shipped.std * ((1.0 + rho) / (1.0 - rho) / shipped.samples) ** 0.5)


def normal_autocorrelation(marginal: NDArray[np.float64], wanted: float) -> float:
    """Solve for the normal process's autocorrelation that gives the transformed one ``wanted``.

    With the Hermite expansion g(u) = sum c_k He_k(u) of the marginal transform, the autocorrelation of g at normal
    correlation r is sum c_k^2 k! r^k / sum c_k^2 k! over k >= 1 (Mehler's formula); it grows with r, so bisection
    finds it.
    """
    if wanted <= 0.0:
        return 0.0
    density = np.exp(-0.5 * _GRID**2)
    density /= density.sum()
    previous, current, power = np.ones_like(_GRID), _GRID.copy(), []
    for k in range(1, _TERMS + 1):
        # Normalised He_k / sqrt(k!): h_{k+1} = (u h_k - sqrt(k) h_{k-1}) / sqrt(k + 1).
        power.append(float((marginal * current * density).sum()) ** 2)
        previous, current = current, (_GRID * current - np.sqrt(k) * previous) / np.sqrt(k + 1)
    weights = np.array(power)
    if weights.sum() == 0.0:
        return 0.0
    weights /= weights.sum()
    low, high, orders = 0.0, 0.999, np.arange(1, _TERMS + 1)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if float((weights * middle**orders).sum()) < wanted else (low, middle)
    return high


def _lag1(shipped: NullDistribution) -> float:
    return min(max(shipped.autocorrelation[0] if shipped.autocorrelation else 0.0, 0.0), 0.95)
