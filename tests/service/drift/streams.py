"""Score streams for the drift tests: a skewed null as an exporter ships it, and longer streams of the same kind."""

import numpy as np

from clearweight.artifact import QUANTILE_LEVELS, Drift, NullDistribution
from clearweight.service.drift.null import score_null

RISE = 0.05


def describe(scores, lags=5):
    """What an exporter ships of scores in stream order."""
    centred = scores - scores.mean()
    power = centred @ centred
    correlations = tuple(
        float(centred[k:] @ centred[:-k] / power) if power else 0.0 for k in range(1, lags + 1)
    )
    quantiles = tuple(float(q) for q in np.quantile(scores, QUANTILE_LEVELS))
    return NullDistribution(
        float(scores.mean()), float(scores.std()), quantiles, correlations, 0.0, len(scores), 0
    )


def shipped(samples=1000, rho=0.0, seed=0):
    """Beta(1.2, 18) scores; the autocorrelation is stated, not drawn."""
    null = describe(np.random.default_rng(seed).beta(1.2, 18, samples))
    return NullDistribution(
        null.mean, null.std, null.quantiles, tuple(rho**k for k in range(1, 6)), 0.0, samples, 0
    )


def flat(value, samples=1000):
    return NullDistribution(value, 0.0, (value,) * len(QUANTILE_LEVELS), (0.0,) * 5, 0.0, samples, 0)


def drift(samples=1000, rho=0.0, flips=0.02, classes=()):
    return Drift(
        "gradient", {"pooled_cosine": shipped(samples, rho), "disagreement": flat(flips, samples)}, classes
    )


def clean(steps, seed, rho=0.0):
    return np.concatenate(list(score_null(shipped(rho=rho), rise=RISE).streams(1, steps, seed)))
