from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import Drift
from clearweight.service.drift import Comparison, Monitor
from clearweight.service.drift.monitor import COLLECTING, MIN_CALIBRATION, STATES
from clearweight.service.drift.null import score_null
from tests.service.drift.test_null import shipped


class Clock:
    """One second per call for `rate` comparisons is up to the test: it sets `now`."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def flat(value, samples=1000):
    null = shipped(samples)
    return type(null)(value, 0.0, (value,) * 101, (0.0,) * 5, 0.0, samples, 0)


def monitor(samples=1000, rho=0.0, days=30.0, flips=0.02):
    clock = Clock()
    scores = {"pooled_cosine": shipped(samples, rho), "disagreement": flat(flips, samples)}
    return Monitor(Drift("gradient", scores), share=1.0, interval_days=days, clock=clock), clock


def feed(watching, clock, scores, flips=None):
    """One comparison per second."""
    flips = np.zeros(len(scores), bool) if flips is None else flips
    for score, flip in zip(scores, flips, strict=True):
        clock.now += 1.0
        watching.observe(Comparison({"pooled_cosine": np.array([score])}, np.array([flip])))


def clean(steps, seed, rho=0.0):
    return np.concatenate(list(score_null(shipped(rho=rho)).streams(1, steps, seed)))


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_clean_traffic_stays_silent(rho):
    watching, clock = monitor(rho=rho)
    rng = np.random.default_rng(8)

    feed(watching, clock, clean(8000, 3, rho), rng.random(8000) < 0.02)

    report = watching.report()
    assert report.state == "normal"
    assert [chart.alarms for chart in report.series] == [0, 0, 0]
    assert report.compared == 8000


def test_over_ten_designed_intervals_alarms_come_as_designed():
    # One alarm per 1000 comparisons is shared by three charts, so this one has 3000 to itself. A calibration so
    # large that the guard for its size vanishes.
    alarms = 0
    for seed in range(6):
        scores = {"pooled_cosine": replace(shipped(), samples=10**7)}
        clock = Clock()
        watching = Monitor(Drift("gradient", scores), share=1.0, interval_days=1000 / 86400, clock=clock)
        feed(watching, clock, clean(10_000, seed))
        alarms += watching.report().series[0].alarms

    assert 10 <= alarms <= 40


def test_a_rise_of_two_deviations_is_found_within_150_comparisons():
    delays = []
    for seed in range(20):
        watching, clock = monitor()
        feed(watching, clock, clean(300, seed))
        drifted = clean(150, 100 + seed) + 2 * shipped().std
        for delay, score in enumerate(drifted, start=1):
            feed(watching, clock, [score])
            if watching.state == "alarm":
                delays.append(delay)
                break

    assert len(delays) == 20
    assert np.median(delays) < 80


def test_a_rise_of_a_twentieth_is_found_within_400_comparisons_in_95_percent_of_runs():
    found = 0
    for seed in range(20):
        watching, clock = monitor()
        feed(watching, clock, clean(100, seed))
        feed(watching, clock, clean(400, 200 + seed) + 0.05)
        found += watching.report().series[0].alarms > 0

    assert found >= 19


def test_the_alarm_index_on_a_seeded_stream_is_pinned():
    watching, clock = monitor()
    stream = np.concatenate([clean(200, 1), clean(300, 2) + 0.1])
    states = []
    for score in stream:
        feed(watching, clock, [score])
        states.append(watching.state)

    assert states[: COLLECTING - 1] == ["collecting"] * (COLLECTING - 1)
    assert (states.index("warning"), states.index("alarm")) == PINNED


PINNED = (220, 225)


def test_more_flips_than_calibrated_raise_the_alarm():
    watching, clock = monitor()
    rng = np.random.default_rng(4)

    feed(watching, clock, clean(400, 6), rng.random(400) < 0.2)

    report = watching.report()
    assert report.state == "alarm"
    assert "disagreement" in report.reason
    assert report.disagreements > 50


def test_undefined_maps_are_counted_and_alarm_instead_of_silence():
    watching, clock = monitor()
    before = watching.report().series[0].statistic

    feed(watching, clock, [np.nan] * 200)

    report = watching.report()
    assert report.undefined == 200
    assert report.series[0].statistic == before
    assert report.state == "alarm"
    assert "undefined" in report.reason


def test_an_alarm_holds_until_the_chart_is_quiet():
    watching, clock = monitor()
    feed(watching, clock, clean(300, 6) + 0.3)
    assert watching.state == "alarm"

    feed(watching, clock, clean(30, 7))
    assert watching.state == "alarm"
    feed(watching, clock, clean(2000, 8))
    assert watching.state == "normal"
    assert watching.report().series[0].alarms == 1


def test_a_small_calibration_never_alarms_and_says_so():
    watching, clock = monitor(samples=MIN_CALIBRATION - 1)

    feed(watching, clock, [1.0] * 300)

    report = watching.report()
    assert report.state == "calibrating"
    assert str(MIN_CALIBRATION) in report.reason
    assert report.series[0].limit is None


def test_a_smaller_calibration_gives_wider_limits():
    limits = []
    for samples in (60, 5000):
        scores = {"pooled_cosine": replace(shipped(), samples=samples)}
        watching = Monitor(Drift("gradient", scores), share=1.0, interval_days=30.0)
        watching.observe(Comparison({"pooled_cosine": np.zeros(1)}, np.zeros(1, bool)))
        limits.append(watching.report().series[0].limit)

    assert limits[0] > limits[1]


def test_a_higher_rate_of_comparisons_raises_the_limit():
    slow, clock = monitor()
    feed(slow, clock, clean(200, 1))
    fast, clock = monitor()
    clock.now = 1.0
    for score in clean(2000, 1):
        fast.observe(Comparison({"pooled_cosine": np.array([score])}, np.array([False])))

    assert fast.report().comparisons_per_second > 10 * slow.report().comparisons_per_second
    assert fast.report().series[0].limit > slow.report().series[0].limit


def test_skipped_rows_are_counted_and_states_are_known():
    watching, _ = monitor()
    watching.skip(sampled_out=5, dropped=2)

    report = watching.report()
    assert (report.sampled_out, report.dropped) == (5, 2)
    assert report.state in STATES
    assert report.last_sample_timestamp_seconds is None
