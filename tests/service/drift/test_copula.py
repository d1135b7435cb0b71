import numpy as np
import pytest

from clearweight.service.drift.copula import (
    GRID,
    autocorrelations,
    autoregression,
    normal_autocorrelation,
)

SKEWED = np.exp(GRID / 2)


def test_the_normal_values_must_be_more_correlated_than_skewed_scores():
    # exp(u/2) has a closed form: corr = (exp(r/4) - 1) / (exp(1/4) - 1).
    found = normal_autocorrelation(SKEWED, 0.3)

    assert (np.exp(found / 4) - 1) / (np.exp(0.25) - 1) == pytest.approx(0.3, abs=1e-6)
    assert normal_autocorrelation(SKEWED, 0.0) == 0.0
    assert normal_autocorrelation(SKEWED, -0.5) == 0.0
    assert normal_autocorrelation(np.zeros_like(GRID), 0.5) == 0.0


@pytest.mark.parametrize("rho", [(0.5,), (0.5, 0.4), (0.3, 0.3, 0.3, 0.3, 0.3), (0.8, 0.7, 0.55, 0.4, 0.35)])
def test_the_recursion_solves_the_yule_walker_equations(rho):
    lags = np.abs(np.subtract.outer(np.arange(len(rho)), np.arange(len(rho))))
    slow = np.linalg.solve(np.array([1.0, *rho])[lags], rho)

    assert np.allclose(autoregression(rho), slow)
    assert np.allclose(autocorrelations(autoregression(rho)), [1.0, *rho])


def test_impossible_autocorrelations_are_cut_off_where_they_become_impossible():
    assert np.allclose(autoregression([0.5, -0.9]), [0.5])
    assert np.allclose(autoregression([1.0, 1.0]), [0.98])
    assert autoregression([]).size == 0


def test_a_long_stream_has_the_autocorrelations_that_were_asked_for():
    rho = (0.5, 0.4, 0.35)
    phi = autoregression(rho)
    noise = np.sqrt(1 - phi @ rho)
    rng, values = np.random.default_rng(0), [0.0, 0.0, 0.0]
    for _ in range(60_000):
        values.append(float(phi @ values[:-4:-1]) + noise * rng.standard_normal())
    series = np.array(values[200:])

    assert series.std() == pytest.approx(1.0, abs=0.03)
    for lag, wanted in enumerate(rho, start=1):
        assert np.corrcoef(series[lag:], series[:-lag])[0, 1] == pytest.approx(wanted, abs=0.02)
