"""The stream of scores to expect while nothing has drifted, rebuilt from the null the artifact ships.

N calibration scores support a body and a tail up to about their maximum; beyond, the tail is exponential. How often a
chart reaches its limit depends on mean, spread and dependence exponentially, and another calibration of the same size
would have found others. So limits are solved twice: on the null as it was measured, and on a guarded one, whose mean,
spread and dependence are each moved to the quiet side by ``GUARD`` standard errors, and whose rarest scores, which so
many samples need not have shown, lie as far out as a score can count. The guarded one has to keep only the share
``HELD`` of the wanted interval: on large calibrations it decides nothing, on small ones everything.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import QUANTILE_LEVELS, ClassNull, NullDistribution
from clearweight.service.drift.copula import (
    GRID,
    PER_UNIT,
    STRONGEST,
    SURVIVAL,
    WEIGHTS,
    autocorrelations,
    autoregression,
    normal_autocorrelation,
)

GUARD = 1.645
"""Standard errors to the quiet side: a one-sided bound of 95 %, after Gandy and Kvaløy, Guaranteed conditional
performance of control charts via bootstrap methods, Scandinavian Journal of Statistics 2013."""
HELD = 0.5
"""Share of the wanted interval that limits keep with that confidence, whatever the calibration happened to hold."""
_TAIL = 0.95
_SIGNIFICANT = 2.58
"""Standard errors from which on an autocorrelation is one: 99 % each, 95 % over the five lags."""


@dataclass(frozen=True, eq=False)
class Null:
    """A marginal distribution on the grid of standard normal values, and the coefficients of their autoregression.

    Attributes
    ----------
    clip : no score counts for more; what lies further out was never calibrated
    """

    marginal: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    clip: float

    @property
    def key(self) -> tuple[bytes, bytes]:
        """The whole content, for caching what was simulated from it."""
        return self.marginal.tobytes(), self.coefficients.tobytes()

    @property
    def mean(self) -> float:
        """Mean of the marginal."""
        return float((self.marginal * WEIGHTS).sum())

    @property
    def noise(self) -> float:
        """Standard deviation of the innovations that gives the normal values unit variance."""
        rho = autocorrelations(self.coefficients)[1:]
        return float(np.sqrt(1.0 - self.coefficients @ rho))

    def begin(self, rng: "np.random.Generator", chains: int) -> NDArray[np.float64]:
        """Draw stationary normal values, shape (order, chains), the newest first."""
        order = self.coefficients.size
        rho = autocorrelations(self.coefficients)[:order]
        lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
        drawn: NDArray[np.float64] = np.linalg.cholesky(rho[lags]) @ rng.standard_normal((order, chains))
        return drawn

    def advance(
        self, rng: "np.random.Generator", past: NDArray[np.float64], noise: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw the next score of every chain; returns the new past and the scores."""
        value = rng.standard_normal((past.shape[1],), dtype=np.float32).astype(np.float64)
        if past.shape[0]:
            value = (self.coefficients[:, None] * past).sum(axis=0) + noise * value
            past = np.vstack([value, past[:-1]])
        # The grid is fine enough for its nearest point, and looking that up takes a tenth of interpolating.
        nearest = ((value - GRID[0]) * PER_UNIT + 0.5).astype(np.intp)
        return past, self.marginal.take(nearest, mode="clip")

    def streams(self, chains: int, steps: int, seed: int) -> Iterator[NDArray[np.float64]]:
        """Yield ``steps`` arrays of ``chains`` scores each, stationary from the first."""
        rng = np.random.default_rng(seed)
        past, noise = self.begin(rng, chains), self.noise
        for _ in range(steps):
            past, scores = self.advance(rng, past, noise)
            yield scores

    def raised(self, rise: float) -> "Null":
        """Return the same stream with every score ``rise`` higher, as far as scores count."""
        return replace(self, marginal=np.minimum(self.marginal + rise, self.clip))


def score_null(
    shipped: NullDistribution,
    *,
    rise: float,
    guard: float = 0.0,
    dependence: NDArray[np.float64] | None = None,
) -> Null:
    """Build the null of a distance.

    Parameters
    ----------
    rise : the rise of the mean that the charts are to find; single scores count up to two of it above the mean, or up
        to one scale of the tail beyond the calibrated maximum, whichever is more
    guard : standard errors by which mean, spread and dependence are moved up, and what was never seen counts as far
        out as a score can; negative ones move the mean alone
    dependence : coefficients of the autoregression; None takes the shipped autocorrelations
    """
    samples = _defined(shipped)
    levels, quantiles = np.array(QUANTILE_LEVELS), np.array(shipped.quantiles, dtype=np.float64)
    top, unseen = float(quantiles[-1]), 1.0 / (samples + 1.0)
    scale = tail_scale(shipped)
    body = np.interp(1.0 - SURVIVAL, levels * (1.0 - unseen), quantiles)
    beyond = top + scale * np.log(unseen / np.minimum(SURVIVAL, unseen))
    marginal = np.where(unseen > SURVIVAL, beyond, body)
    coefficients = dependence
    if coefficients is None:
        coefficients = shipped_dependence(shipped, marginal, max(guard, 0.0))
    wanted = shipped.mean + guard * mean_error(shipped, coefficients)
    clip = max(top + tail_scale(shipped, GUARD), shipped.mean + 2.0 * rise)
    if guard > 0.0:
        centred = marginal - float((marginal * WEIGHTS).sum())
        stretched = 1.0 + guard * spread_error(centred, samples / persistence(coefficients))
        # What a calibration may have missed, by the bound on the rate of an event that it never met, can be anything.
        missed = event_rate_bound(0.0, int(samples)) > SURVIVAL
        marginal = np.where(missed, clip, marginal + (stretched - 1.0) * centred)
    # Interpolated quantiles have not quite the mean of the scores, and limits are sensitive to it.
    marginal = marginal + wanted - float((marginal * WEIGHTS).sum())
    return Null(np.minimum(marginal, clip), coefficients, clip)


def event_null(rate: float, dependence: NDArray[np.float64] | None = None) -> Null:
    """Build the null of a 0/1 event that happens with probability ``rate``."""
    coefficients = np.zeros(0) if dependence is None else dependence
    return Null((rate > SURVIVAL).astype(np.float64), coefficients, 1.0)


def class_distribution(shipped: NullDistribution, entry: ClassNull) -> NullDistribution:
    """Return one class's null: the form of all classes, with the mean, the spread and the sample size of this one."""
    ratio = entry.std / shipped.std if shipped.std > 0.0 else 0.0
    quantiles = tuple(max(entry.mean + ratio * (value - shipped.mean), 0.0) for value in shipped.quantiles)
    return replace(
        shipped, mean=entry.mean, std=entry.std, quantiles=quantiles, samples=entry.samples, undefined=0
    )


def tail_scale(shipped: NullDistribution, guard: float = 0.0) -> float:
    """Return the mean excess over the 95 % point, ``guard`` standard errors up: the scale of an exponential tail.

    References
    ----------
    Pickands, Statistical inference using extreme order statistics, Annals of Statistics 1975 (shape 0).
    """
    levels, quantiles = np.array(QUANTILE_LEVELS), np.array(shipped.quantiles, dtype=np.float64)
    tail = levels >= _TAIL
    excess = float(np.trapezoid(quantiles[tail] - quantiles[tail][0], levels[tail])) / (1.0 - _TAIL)
    exceedances = max(_defined(shipped) * (1.0 - _TAIL), 1.0)
    return excess * (1.0 + guard / math.sqrt(exceedances))


def shipped_dependence(
    shipped: NullDistribution, marginal: NDArray[np.float64], guard: float = 0.0
) -> NDArray[np.float64]:
    """Fit the autoregression to the shipped autocorrelations, up to the last lag that differs from 0 for certain.

    ``guard`` makes all of them stronger, the first by so many of its standard errors (Bartlett 1946).
    """
    error = max(_defined(shipped), 1) ** -0.5
    last = max((k for k, r in enumerate(shipped.autocorrelation, 1) if r > _SIGNIFICANT * error), default=0)
    kept = shipped.autocorrelation[:last]
    first = max(kept[0], error) if kept else 1.0
    stronger = 1.0 + guard * error * max(1.0 - first**2, 0.0) / first
    return autoregression([normal_autocorrelation(marginal, r * stronger) for r in kept])


def persistence(coefficients: NDArray[np.float64]) -> float:
    """Return how many dependent values tell as much of the mean as one independent value, 1 or more."""
    gap = 1.0 - float(coefficients.sum())
    rho = autocorrelations(coefficients)[1:]
    return max((1.0 - float(coefficients @ rho)) / max(gap, 1.0 - STRONGEST) ** 2, 1.0)


def effective_samples(shipped: NullDistribution) -> float:
    """Return how many independent calibration scores the shipped ones are worth."""
    marginal = np.interp(1.0 - SURVIVAL, QUANTILE_LEVELS, shipped.quantiles)
    return _defined(shipped) / persistence(shipped_dependence(shipped, marginal))


def mean_error(shipped: NullDistribution, coefficients: NDArray[np.float64]) -> float:
    """Return the standard error of the null's mean over a series of this dependence."""
    return float(shipped.std * (persistence(coefficients) / max(_defined(shipped), 1)) ** 0.5)


def spread_error(centred: NDArray[np.float64], samples: float) -> float:
    """Return the relative standard error of a standard deviation over so many independent samples.

    By the delta method: sqrt((kurtosis - 1) / 4 n), with the kurtosis of the marginal.
    """
    variance = float((centred**2 * WEIGHTS).sum())
    if variance <= 0.0:
        return 0.0
    kurtosis = float((centred**4 * WEIGHTS).sum()) / variance**2
    return math.sqrt(max(kurtosis - 1.0, 0.0) / (4.0 * max(samples, 1.0)))


def event_rate_bound(events: float, samples: int) -> float:
    """Return the upper bound of an event rate, ``GUARD`` standard errors up, never 0 and never above one half.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    z, n = GUARD, float(samples)
    p = events / n
    bound = (p + z * z / (2 * n) + z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5) / (1 + z * z / n)
    return float(min(bound, 0.5))


def _defined(shipped: NullDistribution) -> int:
    return shipped.samples - shipped.undefined
