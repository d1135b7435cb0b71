"""How scores of one stream depend on one another: an autoregression of normal values behind them.

A Gaussian copula: normal values follow an AR process, each is sent through the score's marginal. Its
autocorrelations are solved so that the *scores* have the measured ones, not the normal values behind them. Drawing
new streams from an autoregression fitted to a series is the sieve bootstrap: a block bootstrap whose blocks have no
seams, and that needs 5 autocorrelations where blocks need the series.

References
----------
Bühlmann, Sieve bootstrap for time series, Bernoulli 1997. Cario and Nelson, Autoregressive to anything, Operations
Research Letters 1996.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GRID = np.linspace(-6.0, 6.0, 2401)
"""Standard normal values at which marginals are tabled."""
PER_UNIT = 200.0
"""Grid points per unit."""
SURVIVAL = np.array([0.5 * math.erfc(float(u) / math.sqrt(2.0)) for u in GRID])
"""P(U > u) on the grid; exact in the upper tail, where 1 - P would not be."""
WEIGHTS = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()
STRONGEST = 0.98
_TERMS = 24


def normal_autocorrelation(marginal: NDArray[np.float64], wanted: float) -> float:
    """Solve for the normal autocorrelation that gives the transformed values ``wanted``.

    With the Hermite expansion g(u) = sum c_k He_k(u) of the marginal transform, the autocorrelation of g at normal
    correlation r is sum c_k^2 k! r^k / sum c_k^2 k! over k >= 1 (Mehler's formula); it grows with r, so bisection
    finds it. Negative ones count as none, which errs to the quiet side.
    """
    if wanted <= 0.0:
        return 0.0
    previous, current, power = np.ones_like(GRID), GRID.copy(), []
    for k in range(1, _TERMS + 1):
        # Normalised He_k / sqrt(k!): h_{k+1} = (u h_k - sqrt(k) h_{k-1}) / sqrt(k + 1).
        power.append(float((marginal * current * WEIGHTS).sum()) ** 2)
        previous, current = current, (GRID * current - np.sqrt(k) * previous) / np.sqrt(k + 1)
    weights = np.array(power)
    if weights.sum() == 0.0:
        return 0.0
    weights /= weights.sum()
    low, high, orders = 0.0, 0.999, np.arange(1, _TERMS + 1)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if float((weights * middle**orders).sum()) < wanted else (low, middle)
    return high


def autoregression(correlations: Sequence[float]) -> NDArray[np.float64]:
    """Fit an AR process of unit variance to autocorrelations at lags 1 to p by Levinson and Durbin's recursion.

    Returns
    -------
    float64, shape (p',)
        Coefficients, p' <= p: the recursion stops before a lag that no stationary process could have.
    """
    fitted: list[float] = []
    error = 1.0
    for order, correlation in enumerate(correlations):
        known = sum(phi * correlations[order - 1 - i] for i, phi in enumerate(fitted))
        reflection = (correlation - known) / error
        if abs(reflection) > STRONGEST:
            if order == 0:
                fitted = [math.copysign(STRONGEST, reflection)]
            break
        fitted = [
            *(phi - reflection * back for phi, back in zip(fitted, reversed(fitted), strict=True)),
            reflection,
        ]
        error *= 1.0 - reflection**2
    return np.array(fitted)


def autocorrelations(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the autocorrelations at lags 0 to p of an AR(p) process (its Yule-Walker equations, solved)."""
    order = coefficients.size
    equations = np.eye(order + 1)
    for lag in range(1, order + 1):
        for i, phi in enumerate(coefficients, start=1):
            equations[lag, abs(lag - i)] -= phi
    solved: NDArray[np.float64] = np.linalg.solve(equations, np.eye(order + 1)[0])
    return solved
