from dataclasses import replace

import numpy as np
import pytest

from clearweight.artifact import OTHER, ClassNull, Drift
from clearweight.service.drift import Comparison, Monitor
from clearweight.service.drift.chart import STATES
from clearweight.service.drift.charts import RISE
from clearweight.service.drift.monitor import COLLECTING, MIN_CALIBRATION
from tests.service.drift.streams import clean, drift, shipped

CLASSES = (ClassNull(0, 500, 0.04, 0.04), ClassNull(1, 300, 0.08, 0.06), ClassNull(OTHER, 200, 0.09, 0.07))


class Clock:
    """One second per call for `rate` comparisons is up to the test: it sets `now`."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def monitor(samples=1000, rho=0.0, days=30.0, **settings):
    clock = Clock()
    watching = Monitor(drift(samples, rho, **settings), share=1.0, interval_days=days, clock=clock)
    watching.refresh()
    return watching, clock


def chart(report, metric, detector, label=""):
    (found,) = [
        entry
        for entry in report.series
        if (entry.metric, entry.detector, entry.label) == (metric, detector, label)
    ]
    return found


def feed(watching, clock, scores, flips=None):
    """One comparison per second."""
    flips = np.zeros(len(scores), bool) if flips is None else flips
    for score, flip in zip(scores, flips, strict=True):
        clock.now += 1.0
        watching.observe(Comparison({"pooled_cosine": np.array([score])}, np.array([flip])))


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_clean_traffic_stays_silent(rho):
    watching, clock = monitor(rho=rho)
    rng = np.random.default_rng(8)

    feed(watching, clock, clean(4000, 3, rho), rng.random(4000) < 0.02)

    report = watching.report()
    assert report.state == "normal"
    assert [entry.alarms for entry in report.series] == [0] * 4
    assert report.compared == 4000


def test_over_ten_designed_intervals_alarms_come_as_designed():
    # One alarm per 1000 comparisons is shared by charts of weight 3.1, so the two on the score have 3100 each. The
    # calibration is so large that the guard for its size vanishes.
    alarms = []
    for seed in range(4):
        scores = {"pooled_cosine": replace(shipped(), samples=10**7)}
        clock = Clock()
        watching = Monitor(Drift("gradient", scores), share=1.0, interval_days=1000 / 86400, clock=clock)
        feed(watching, clock, clean(10_000, seed))
        alarms.append([entry.alarms for entry in watching.report().series])

    average, cusum = np.sum(alarms, axis=0)[:2]
    assert 5 <= average <= 20
    assert 5 <= cusum <= 20


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


def test_a_rise_of_a_twentieth_is_found_within_the_stated_delay_in_95_percent_of_runs():
    found, runs = 0, 40
    for seed in range(runs):
        watching, clock = monitor()
        feed(watching, clock, clean(100, seed))
        stated = watching.report().power
        assert stated.rise == RISE
        feed(watching, clock, clean(stated.delay_samples_p95, 200 + seed) + RISE)
        found += sum(entry.alarms for entry in watching.report().series) > 0

    assert stated.delay_samples_p95 < 200
    assert found / runs >= 0.9  # nearly two standard errors of 40 runs below 95 %


def test_the_alarm_index_on_a_seeded_stream_is_pinned():
    watching, clock = monitor()
    stream = np.concatenate([clean(200, 1), clean(300, 2) + 0.1])
    states = []
    for score in stream:
        feed(watching, clock, [score])
        states.append(watching.state)

    assert states[: COLLECTING - 1] == ["collecting"] * (COLLECTING - 1)
    assert (states.index("warning"), states.index("alarm")) == PINNED


PINNED = (213, 219)


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
    assert report.state == "insufficient_calibration"
    assert str(MIN_CALIBRATION) in report.reason
    assert report.series[0].limit is None


def test_a_smaller_calibration_gives_wider_limits():
    limits = []
    for samples in (60, 5000):
        scores = {"pooled_cosine": replace(shipped(), samples=samples)}
        watching = Monitor(Drift("gradient", scores), share=1.0, interval_days=30.0)
        watching.refresh()
        limits.append(watching.report().series[0].limit)

    assert limits[0] > limits[1]


def test_dependent_calibration_samples_count_for_less():
    watching, _ = monitor(samples=100, rho=0.8)

    assert watching.report().state == "insufficient_calibration"
    assert watching.report().calibration_samples < 20


def test_a_higher_rate_of_comparisons_raises_the_limits_and_a_lower_one_lowers_them():
    limits = {}
    for rate in (0.1, 1.0, 10.0):
        watching, clock = monitor()
        for _ in range(300):
            clock.now += 8 / rate
            watching.observe(Comparison({"pooled_cosine": np.full(8, 0.05)}, np.zeros(8, bool)))
        report = watching.report()
        assert report.comparisons_per_second == pytest.approx(rate, rel=0.3)
        wanted = 30 * 86400 * report.comparisons_per_second * report.series_on_device
        for entry in report.series[:3]:
            assert entry.interval_samples == pytest.approx(wanted, rel=0.1)
        limits[rate] = [entry.limit for entry in report.series]

    assert np.all(np.diff(list(limits.values()), axis=0) > 0)


@pytest.mark.slow
def test_a_dependent_stream_widens_the_limits_instead_of_alarming():
    # Calibrated on independent samples, used on something like a video.
    watching, clock = monitor()
    narrow = watching.report().series[0].limit
    feed(watching, clock, clean(6000, 1, rho=0.85))

    report = watching.report()
    assert 0.8 <= report.autocorrelation <= 0.95
    assert report.series[0].limit > 1.2 * narrow
    assert report.state in ("normal", "warning")


def test_drift_is_not_taken_for_dependence():
    watching, clock = monitor()
    feed(watching, clock, clean(2000, 1) + np.linspace(0, 0.1, 2000))

    assert watching.report().state == "alarm"
    assert watching.report().autocorrelation is None


def test_limits_are_the_same_for_the_same_conditions():
    first, second = (monitor(classes=CLASSES)[0].report() for _ in range(2))

    assert first.series == second.series
    assert first.power == second.power


def test_a_larger_family_has_higher_limits():
    alone, _ = monitor()
    among, _ = monitor()
    among.family = 400
    among.refresh()

    for one, many in zip(alone.report().series, among.report().series, strict=True):
        assert many.limit > one.limit
    assert among.report().series_on_device == 400


def test_each_class_has_a_chart_against_its_own_null():
    watching, clock = monitor(classes=CLASSES)
    rng = np.random.default_rng(0)
    for _ in range(250):
        labels = rng.choice([0, 1, 5], 8, p=[0.5, 0.3, 0.2])
        means = np.select([labels == 0, labels == 1], [0.04, 0.08], 0.09)
        # Class 0 reaches what is normal for class 1: the mean of all rises by less than half of it.
        scores = means * rng.gamma(2.0, 0.5, 8) + np.where(labels == 0, 0.04, 0.0)
        clock.now += 8.0
        watching.observe(Comparison({"pooled_cosine": scores}, np.zeros(8, bool), labels))

    report = watching.report()
    states = {entry.label: entry.state for entry in report.series if entry.label}
    assert states == {"0": "alarm", "1": "normal", "other": "normal"}
    assert "pooled_cosine of class 0" in report.reason
    assert sum(entry.compared for entry in report.classes.values()) == 2000
    assert report.classes["0"].window.mean == pytest.approx(0.08, rel=0.15)
    assert report.classes["1"].window.mean == pytest.approx(0.08, rel=0.15)


def test_a_class_chart_has_the_budget_of_its_own_share_of_the_stream():
    watching, _ = monitor(classes=CLASSES)
    report = watching.report()
    whole = chart(report, "pooled_cosine", "cusum").interval_samples

    assert report.series_on_device == pytest.approx(1 + 1 + 1 + 0.1 + 1)
    assert chart(report, "pooled_cosine", "cusum", "0").interval_samples == pytest.approx(
        3 * whole / 2, rel=0.1
    )
    assert chart(report, "pooled_cosine", "cusum", "other").interval_samples == pytest.approx(
        3 * whole / 5, rel=0.1
    )


def test_labels_name_the_classes_where_there_are_any():
    watching = Monitor(drift(classes=CLASSES), share=1.0, interval_days=30.0, labels=("cat",))

    assert [entry.label for entry in watching.report().series] == ["", "", "", "", "cat", "1", "other"]


def test_one_wild_score_alone_never_raises_an_alarm():
    watching, clock = monitor(classes=CLASSES)
    feed(watching, clock, clean(100, 1))
    feed(watching, clock, [1e6])

    assert watching.report().state != "alarm"


def test_a_restored_monitor_goes_on_where_the_other_stopped():
    one, clock = monitor(classes=CLASSES)
    feed(one, clock, clean(150, 5) + 0.03, np.arange(150) % 40 == 0)
    two, later = monitor(classes=CLASSES)
    two.restore(one.snapshot())
    assert two.snapshot() == one.snapshot()

    for watching, its in ((one, clock), (two, later)):
        feed(watching, its, clean(60, 6) + 0.05)
    assert two.report().series == one.report().series
    assert two.report().compared == 210
    assert two.report().series[0].alarms == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"charts": {}},
        {"counts": [1, 2]},
        {"counts": ["many"] * 5},
        {"rate": [float("nan"), 1.0]},
        {"classes": {}},
    ],
)
def test_a_state_of_something_else_is_refused_whole(broken):
    one, clock = monitor(classes=CLASSES)
    feed(one, clock, clean(50, 5))
    other, _ = monitor(classes=CLASSES)
    before = other.snapshot()

    with pytest.raises((ValueError, TypeError, KeyError)):
        other.restore(one.snapshot() | broken)
    assert other.snapshot() == before


def test_skipped_rows_are_counted_and_states_are_known():
    watching, _ = monitor()
    watching.skip(sampled_out=5, dropped=2)

    report = watching.report()
    assert (report.sampled_out, report.dropped) == (5, 2)
    assert report.state in STATES
    assert report.last_sample_timestamp_seconds is None
