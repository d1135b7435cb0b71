from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import ClassNull
from clearweight.service.drift.copula import autocorrelations
from clearweight.service.drift.null import (
    GUARD,
    class_distribution,
    effective_samples,
    event_null,
    event_rate_bound,
    mean_error,
    score_null,
    shipped_dependence,
    spread_error,
    tail_scale,
)
from tests.service.drift.streams import RISE, describe, shipped


def streams(null, chains=3000, steps=40, seed=5):
    return np.array(list(null.streams(chains, steps, seed)))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7])
def test_simulated_scores_have_the_shipped_mean_spread_and_autocorrelation(rho):
    null = shipped(rho=rho)
    drawn = streams(score_null(null, rise=RISE))

    assert drawn.mean() == pytest.approx(null.mean, rel=0.03)
    assert drawn.std() == pytest.approx(null.std, rel=0.05)
    for lag in (1, 2):
        assert np.corrcoef(drawn[20], drawn[20 + lag])[0, 1] == pytest.approx(rho**lag, abs=0.05)


def test_dependence_that_fades_slowly_is_kept_at_every_lag():
    # A slow level under fast noise: no first-order process has these autocorrelations.
    rng, level, scores = np.random.default_rng(3), 0.0, []
    for _ in range(8000):
        level = 0.9 * level + np.sqrt(1 - 0.81) * rng.standard_normal()
        scores.append(0.1 + 0.02 * level + 0.03 * rng.standard_normal())
    null = describe(np.array(scores))
    drawn = streams(score_null(null, rise=RISE), steps=60)

    for lag in (1, 3, 5):
        found = np.corrcoef(drawn[20], drawn[20 + lag])[0, 1]
        assert found == pytest.approx(null.autocorrelation[lag - 1], abs=0.05)


def test_the_same_seed_gives_the_same_stream():
    null = score_null(shipped(rho=0.4), rise=RISE)

    assert np.array_equal(streams(null, seed=3), streams(null, seed=3))
    assert not np.array_equal(streams(null, seed=3), streams(null, seed=4))


def test_the_share_that_a_calibration_cannot_have_seen_lies_above_its_maximum():
    few, many = shipped(samples=60), replace(shipped(samples=60), samples=60_000)
    top = few.quantiles[-1]

    assert (streams(score_null(few, rise=RISE)) > top).mean() == pytest.approx(1 / 61, rel=0.3)
    assert (streams(score_null(many, rise=RISE)) > top).mean() < 1e-3


def test_the_tail_beyond_a_large_calibration_is_the_true_one():
    # Exponential scores: the excess over any point has the mean of the whole.
    scores = 0.03 * np.random.default_rng(1).exponential(size=20_000)
    null = score_null(describe(scores), rise=1.0)
    drawn = streams(null, chains=20_000, steps=100)

    assert tail_scale(describe(scores)) == pytest.approx(0.03, rel=0.1)
    assert (drawn > 0.03 * np.log(1e5)).mean() == pytest.approx(1e-5, rel=0.8)


def test_a_small_calibration_has_a_longer_tail_and_a_higher_bound_on_the_mean():
    few, many = shipped(samples=100), replace(shipped(samples=100), samples=100_000)

    assert tail_scale(few, GUARD) > 1.5 * tail_scale(many, GUARD)
    assert mean_error(few, np.zeros(0)) == pytest.approx(few.std / 10)
    bound = score_null(few, rise=RISE, guard=GUARD)
    assert bound.mean == pytest.approx(few.mean + GUARD * few.std / 10, rel=0.01)


def test_the_guarded_spread_is_what_calibrations_of_that_size_find_at_most():
    # The slow twin: how much the deviation of 400 scores varies, by drawing 400 scores often.
    rng = np.random.default_rng(2)
    deviations = rng.beta(1.2, 18, (4000, 400)).std(axis=1)
    null = describe(rng.beta(1.2, 18, 200_000))
    plain = score_null(null, rise=1.0)
    centred = plain.marginal - plain.mean

    assert spread_error(centred, 400) == pytest.approx(deviations.std() / deviations.mean(), rel=0.1)

    few = replace(null, samples=400)
    spread = [streams(score_null(few, rise=1.0, guard=guard)).std() for guard in (0.0, GUARD)]
    assert spread[1] / spread[0] > 1 + GUARD * spread_error(centred, 400)


def test_what_a_calibration_need_not_have_shown_may_lie_anywhere():
    null = shipped(400)
    guarded = score_null(null, rise=RISE, guard=GUARD)
    drawn = streams(guarded)

    # 400 samples miss an event of rate 0.0054 more often than one in twenty times.
    assert 0.95**400 < 0.05 < (1 - 0.0054) ** 400
    assert (drawn > 0.95 * guarded.clip).mean() == pytest.approx(event_rate_bound(0, 400), rel=0.2)
    assert (streams(score_null(null, rise=RISE)) > 0.95 * guarded.clip).mean() < 1e-3


def test_the_guarded_dependence_is_stronger_by_its_standard_error():
    null, marginal = shipped(400, rho=0.6), score_null(shipped(400), rise=RISE).marginal
    plain, guarded = (
        autocorrelations(shipped_dependence(null, marginal, guard))[1] for guard in (0.0, GUARD)
    )

    assert guarded - plain == pytest.approx(GUARD * (1 - 0.6**2) / 20, rel=0.2)
    assert shipped_dependence(shipped(400), marginal, GUARD).size == 0


def test_a_power_null_moves_the_mean_alone():
    null = shipped(400, rho=0.5)
    plain, low = score_null(null, rise=RISE), score_null(null, rise=RISE, guard=-GUARD)

    body = plain.marginal < plain.clip
    assert np.ptp((plain.marginal - low.marginal)[body]) < 1e-9
    assert np.array_equal(plain.coefficients, low.coefficients)


def test_no_score_counts_for_more_than_twice_the_rise_or_the_calibrated_tail():
    null, narrow = shipped(), describe(np.random.default_rng(0).uniform(0.01, 0.012, 500))

    assert score_null(null, rise=RISE).clip == pytest.approx(null.quantiles[-1] + tail_scale(null, GUARD))
    assert score_null(narrow, rise=RISE).clip == pytest.approx(narrow.mean + 0.1)


def test_dependent_calibration_samples_are_worth_fewer():
    assert effective_samples(shipped(1000)) == 1000
    # An AR(1) of 0.5 has a long-run variance of (1 + r) / (1 - r) = 3.
    normal = replace(
        describe(np.random.default_rng(0).normal(1, 0.1, 1000)), autocorrelation=(0.5,) + (0.0,) * 4
    )
    assert effective_samples(normal) == pytest.approx(1000 / 3, rel=0.02)


def test_a_class_has_the_form_of_all_with_its_own_mean_and_spread():
    own = class_distribution(shipped(), ClassNull(3, 900, 0.1, 0.02))

    assert (own.mean, own.std, own.samples) == (0.1, 0.02, 900)
    drawn = streams(score_null(own, rise=RISE))
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0.1, rel=0.02), pytest.approx(0.02, rel=0.1))


def test_events_happen_at_their_rate():
    assert streams(event_null(0.07)).mean() == pytest.approx(0.07, rel=0.05)


@pytest.mark.parametrize(
    ("events", "samples", "expected"),
    [(0, 500, 0.00538), (10, 100, 0.1604), (3, 400, 0.0186), (100, 100, 0.5)],
)
def test_event_rates_are_bounded_from_above(events, samples, expected):
    assert event_rate_bound(events, samples) == pytest.approx(expected, rel=0.01)
