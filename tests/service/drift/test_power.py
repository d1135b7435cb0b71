import numpy as np
import pytest

from clearweight.service.drift import Cusum, Ewma
from clearweight.service.drift.null import score_null
from clearweight.service.drift.power import LONGEST, detection_delay
from tests.service.drift.streams import RISE, clean, shipped

NULL = shipped()
STREAM = score_null(NULL, rise=RISE)


def slow_delay(limits, seed):
    """One run of both charts, score by score: 128 before the rise, then until either alarms."""
    charts = [Ewma(NULL.mean, 0.02), Cusum(NULL.mean, RISE)]
    for score in clean(128, seed):
        for chart in charts:
            chart.update(score)
    for delay, score in enumerate(clean(2000, 10_000 + seed) + RISE, start=1):
        if any(
            chart.update(min(score, STREAM.clip)) > limit for chart, limit in zip(charts, limits, strict=True)
        ):
            return delay
    return None


def test_the_stated_delay_is_what_single_runs_take():
    limits = (0.09, 1.3)
    power = detection_delay([(Ewma(NULL.mean, 0.02), 0.09), (Cusum(NULL.mean, RISE), 1.3)], STREAM, RISE)
    delays = [slow_delay(limits, seed) for seed in range(120)]

    assert power.rise == RISE
    assert power.delay_samples_mean == pytest.approx(np.mean(delays), rel=0.12)
    assert np.mean([delay <= power.delay_samples_p95 for delay in delays]) >= 0.9
    assert power.delay_samples_p95 < 1.25 * np.quantile(delays, 0.95)


def test_two_charts_find_a_rise_no_later_than_one():
    charts = [(Ewma(NULL.mean, 0.02), 0.09), (Cusum(NULL.mean, RISE), 1.3)]
    both = detection_delay(charts, STREAM, RISE)

    for chart in charts:
        assert both.delay_samples_p95 <= detection_delay([chart], STREAM, RISE).delay_samples_p95


def test_a_rise_that_a_limit_cannot_see_has_no_delay():
    found = detection_delay([(Ewma(NULL.mean, 0.5), 2.0)], STREAM, RISE)

    assert (found.delay_samples_mean, found.delay_samples_p95) == (None, None)
    assert LONGEST >= 10_000
