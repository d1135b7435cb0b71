from functools import partial

import numpy as np
import pytest

from clearweight.service.drift import DETECTORS, BernoulliCusum, Cusum, Ewma
from clearweight.service.drift.ewma import ewma_weight
from clearweight.service.drift.null import event_null, score_null
from clearweight.service.drift.run_length import RunLengthCurve, run_length_curve
from tests.service.drift.streams import RISE, describe, shipped

NULL = shipped()
MADE = {
    "ewma": (partial(Ewma, NULL.mean, ewma_weight(NULL.std, RISE)), partial(score_null, rise=RISE)),
    "cusum": (partial(Cusum, NULL.mean, RISE), partial(score_null, rise=RISE)),
    "bernoulli_cusum": (partial(BernoulliCusum, 0.02), lambda shipped: event_null(0.02)),
}


def counted(detector, scores, limit):
    """Count alarms in streams (steps, chains): one per excursion above the start value that reaches the limit."""
    state = np.full(scores.shape[1], detector.start)
    alarms, armed = 0, np.ones(scores.shape[1], bool)
    for row in scores:
        state = detector.step(state, row)
        alarm = armed & (state >= limit)
        alarms += int(alarm.sum())
        armed = (armed & ~alarm) | (state <= detector.start)
    return alarms


def test_every_detector_is_tried():
    assert set(MADE) == set(DETECTORS)


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize("name", sorted(MADE))
def test_splitting_agrees_with_waiting_for_the_alarms(name, rho):
    # The slow twin: six million scores that were never used to solve the limit, and counting.
    chart, null = MADE[name]
    detector, stream = chart(), null(shipped(rho=rho))
    limit = run_length_curve(detector, stream, 1e8).limit(20_000)

    scores = np.array(list(stream.streams(1500, 4000, seed=77)))

    assert 20_000 / 1.4 < scores.size / counted(detector, scores, limit) < 20_000 * 1.4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MADE))
def test_splitting_agrees_with_waiting_for_rare_alarms(name):
    chart, null = MADE[name]
    detector, stream = chart(), null(NULL)
    limit = run_length_curve(detector, stream, 1e8).limit(1e6)
    alarms = sum(
        counted(detector, np.array(list(stream.streams(2000, 4000, seed))), limit) for seed in range(10)
    )

    assert 1e6 / 1.7 < 10 * 2000 * 4000 / alarms < 1.7e6


def blocks(scores, length, chains, steps, seed):
    """Moving-block bootstrap (Kuensch 1989) of an ordered series: streams of shape (steps, chains)."""
    rng = np.random.default_rng(seed)
    count = -(-steps // length)
    starts = rng.integers(0, len(scores) - length, (count, chains))
    return scores[(starts[:, None, :] + np.arange(length)[None, :, None]).reshape(count * length, chains)]


@pytest.mark.parametrize("name", ["ewma", "cusum"])
def test_limits_from_32_quantiles_and_5_lags_hold_on_a_block_bootstrap_of_the_ordered_scores(name):
    truth = score_null(shipped(rho=0.5), rise=RISE)
    scores = np.concatenate(list(truth.streams(1, 20_000, seed=3)))
    null = describe(scores)
    detector = {"ewma": Ewma(null.mean, ewma_weight(2 * null.std, RISE)), "cusum": Cusum(null.mean, RISE)}[
        name
    ]
    limit = run_length_curve(detector, score_null(null, rise=RISE), 1e6).limit(20_000)

    fresh = np.array(list(truth.streams(1500, 4000, seed=5)))
    for streams in (fresh, blocks(scores, 50, 1500, 4000, seed=5), blocks(scores, 200, 1500, 4000, seed=5)):
        assert 10_000 < streams.size / counted(detector, streams, limit) < 40_000


def test_rarer_alarms_need_higher_limits():
    curve = run_length_curve(Ewma(NULL.mean, 0.02), score_null(NULL, rise=RISE), 1e9)
    limits = [curve.limit(interval) for interval in (100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)]

    assert limits == sorted(limits)
    assert len(set(limits)) == len(limits)


def test_a_constant_score_gives_a_limit_all_the_same():
    null = score_null(describe(np.full(400, 0.25)), rise=RISE)
    for detector in (Ewma(0.25, 0.1), Cusum(0.25, RISE)):
        curve = run_length_curve(detector, null, 1e9)
        assert detector.start <= curve.limit(1e9) < detector.start + 0.01


def test_beyond_the_curve_the_limit_is_its_end():
    curve = RunLengthCurve(np.array([0.0, 1.0, 2.0]), np.log([0.1, 0.01, 0.001]))

    assert curve.limit(100) == pytest.approx(1.0)
    assert curve.limit(1e9) == 2.0


def test_the_limit_is_the_same_on_every_run(monkeypatch):
    stream = score_null(NULL, rise=RISE)
    first = run_length_curve(Ewma(NULL.mean, 0.1), stream, 1e6)
    monkeypatch.setattr("clearweight.service.drift.run_length._SOLVED", {})
    second = run_length_curve(Ewma(NULL.mean, 0.1), stream, 1e6)

    assert first is not second
    assert np.array_equal(first.levels, second.levels)
    assert np.array_equal(first.log_rates, second.log_rates)
