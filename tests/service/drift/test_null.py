from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import NullDistribution
from clearweight.service.drift.null import (
    event_null,
    event_rate_bound,
    mean_error,
    normal_autocorrelation,
    score_null,
)


def shipped(samples=1000, rho=0.0, seed=0):
    scores = np.random.default_rng(seed).beta(1.2, 18, samples)
    quantiles = tuple(np.quantile(scores, np.linspace(0, 1, 101)))
    return NullDistribution(scores.mean(), scores.std(), quantiles, (rho,) * 5, 0.0, samples, 0)


def streams(null, chains=3000, steps=40, seed=5):
    return np.array(list(null.streams(chains, steps, seed)))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7])
def test_simulated_scores_have_the_shipped_mean_spread_and_autocorrelation(rho):
    null = shipped(rho=rho)
    drawn = streams(score_null(null))

    assert drawn.mean() == pytest.approx(null.mean, rel=0.03)
    assert drawn.std() == pytest.approx(null.std, rel=0.05)
    assert np.corrcoef(drawn[20], drawn[21])[0, 1] == pytest.approx(rho, abs=0.05)


def test_the_normal_process_must_be_more_correlated_than_skewed_scores():
    marginal = score_null(shipped()).marginal

    assert 0.3 < normal_autocorrelation(marginal, 0.3) < 0.4
    assert normal_autocorrelation(marginal, 0.0) == 0.0
    assert normal_autocorrelation(marginal, -0.5) == 0.0
    assert normal_autocorrelation(np.zeros_like(marginal), 0.5) == 0.0


def test_the_same_seed_gives_the_same_stream():
    null = score_null(shipped(rho=0.4))

    assert np.array_equal(streams(null, seed=3), streams(null, seed=3))
    assert not np.array_equal(streams(null, seed=3), streams(null, seed=4))


def test_a_small_calibration_leaves_more_room_above_its_maximum():
    few, many = shipped(samples=60), replace(shipped(samples=60), samples=60_000)
    top = few.quantiles[-1]

    assert (streams(score_null(few)) > top).mean() == pytest.approx(1 / 61, rel=0.2)
    assert (streams(score_null(many)) > top).mean() < 1e-3
    assert mean_error(few) > mean_error(many)


def test_events_happen_at_their_rate():
    assert streams(event_null(0.07)).mean() == pytest.approx(0.07, rel=0.05)


@pytest.mark.parametrize(
    ("events", "samples", "expected"), [(0, 500, 0.00538), (10, 100, 0.1609), (100, 100, 0.5)]
)
def test_event_rates_are_bounded_from_above(events, samples, expected):
    assert event_rate_bound(events, samples) == pytest.approx(expected, rel=0.01)
