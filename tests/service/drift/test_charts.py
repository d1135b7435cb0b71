from dataclasses import replace

import numpy as np
import pytest

from clearweight.service.drift.charts import charts_of
from clearweight.service.drift.null import GUARD, HELD
from clearweight.service.drift.run_length import run_length_curve
from tests.service.drift.streams import describe, drift

INTERVAL = 20_000


def counted(detector, limit, scores):
    """Scores between two alarms, score by score over streams (steps, chains); one alarm per excursion."""
    state, armed, alarms = (
        np.full(scores.shape[1], detector.start),
        np.ones(scores.shape[1], bool),
        0,
    )
    for row in scores:
        state = detector.step(state, row)
        alarm = armed & (state > limit)
        alarms += int(alarm.sum())
        armed = (armed & ~alarm) | (state <= detector.start)
    return scores.size / max(alarms, 1)


def test_every_chart_has_its_series_and_its_part_of_the_budget():
    watched = charts_of(drift(classes=()), ())

    assert [(entry.chart.metric, entry.chart.detector.name) for entry in watched] == [
        ("pooled_cosine", "ewma"),
        ("pooled_cosine", "cusum"),
        ("disagreement", "bernoulli_cusum"),
        ("undefined", "bernoulli_cusum"),
    ]
    assert [entry.weight for entry in watched] == [1.0, 1.0, 1.0, 0.1]


def test_a_calibration_that_holds_few_flips_by_chance_keeps_half_the_interval():
    # 3 of 400, where the network flips 7 in 400: such a calibration comes once in twelve (Poisson).
    flips = charts_of(drift(samples=400, flips=3 / 400), ())[2]
    limit = flips.limits(None, INTERVAL)[1]
    stream = np.random.default_rng(1).random((4000, 1500)) < 7 / 400

    assert counted(flips.chart.detector, limit, stream.astype(float)) > HELD * INTERVAL


@pytest.mark.parametrize("chart", [0, 1, 2])
def test_limits_are_the_higher_of_two_and_a_large_calibration_decides_them_alone(chart):
    def limits(samples):
        null = drift(samples=1000, flips=0.02)
        null = replace(
            null, scores={name: replace(own, samples=samples) for name, own in null.scores.items()}
        )
        entry = charts_of(null, ())[chart]
        measured, guarded = (
            run_length_curve(entry.chart.detector, entry.null(None, guard), part * INTERVAL).limit(
                part * INTERVAL
            )
            for guard, part in ((0.0, 1.0), (GUARD, HELD))
        )
        return entry.limits(None, INTERVAL)[1], measured, guarded

    taken, measured, guarded = limits(300)
    assert taken == guarded > measured
    taken, measured, guarded = limits(1_000_000)
    assert taken == measured > guarded


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chart", [0, 1])
def test_nineteen_calibrations_in_twenty_keep_half_the_interval(chart):
    # Many calibrations of 400 scores, each judged on streams that it never saw; a tenth may fail by chance.
    fresh = np.random.default_rng(9).beta(1.2, 18, (4000, 1000))
    kept = []
    for seed in range(40):
        null = drift(samples=400)
        scores = {**null.scores, "pooled_cosine": describe(np.random.default_rng(seed).beta(1.2, 18, 400))}
        entry = charts_of(replace(null, scores=scores), ())[chart]
        limit = entry.limits(None, INTERVAL)[1]
        kept.append(
            counted(entry.chart.detector, limit, np.minimum(fresh, entry.chart.clip)) >= HELD * INTERVAL
        )

    assert np.mean(kept) >= 0.9
