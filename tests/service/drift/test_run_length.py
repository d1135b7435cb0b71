import numpy as np
import pytest

from clearweight.service.drift import BernoulliCusum, Ewma
from clearweight.service.drift.null import event_null, score_null
from clearweight.service.drift.run_length import RunLengthCurve, run_length_curve
from tests.service.drift.test_null import shipped


def alarms(detector, null, limit, *, chains=1500, steps=3000, seed=77):
    """Count crossings in streams that were never used to solve the limit, one chart at a time in meaning."""
    state, count, above = np.full(chains, detector.start), 0, np.zeros(chains, bool)
    for scores in null.streams(chains, steps, seed):
        state = detector.step(state, scores)
        count += int(((state > limit) & ~above).sum())
        above = state > limit
    return count, chains * steps


@pytest.mark.parametrize("rho", [0.0, 0.4])
@pytest.mark.parametrize("interval", [3_000, 100_000])
def test_false_alarms_come_at_the_wanted_interval_within_a_factor_of_two(rho, interval):
    null = shipped(rho=rho)
    chart, stream = Ewma(null.mean, 0.2), score_null(null)
    limit = run_length_curve(chart, stream).limit(interval)

    count, samples = alarms(chart, stream, limit)

    assert interval / 2 < samples / count < interval * 2


def test_the_event_chart_keeps_its_interval_too():
    chart, stream = BernoulliCusum(0.02), event_null(0.02)
    limit = run_length_curve(chart, stream).limit(20_000)
    state, count = np.zeros(1500), 0
    for events in stream.streams(1500, 3000, 9):
        state = chart.step(state, events)
        count += int((state > limit).sum())
        state[state > limit] = 0.0

    assert 10_000 < 1500 * 3000 / count < 40_000


def test_rarer_alarms_need_higher_limits_far_beyond_the_simulated_range():
    null = shipped()
    curve = run_length_curve(Ewma(null.mean), score_null(null))
    limits = [curve.limit(interval) for interval in (100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)]

    assert limits == sorted(limits)
    assert len(set(limits)) == len(limits)


def test_a_constant_score_gives_a_limit_all_the_same():
    assert RunLengthCurve(np.full(400, 0.25), 100).limit(1e9) == 0.25


def test_the_limit_is_the_same_on_every_run():
    null = shipped()
    first, second = (run_length_curve(Ewma(null.mean), score_null(null)) for _ in range(2))

    assert np.array_equal(first.maxima, second.maxima)
