import math

import numpy as np
import pytest

from clearweight.service.drift import DETECTORS, Ewma
from clearweight.service.drift.ewma import HEAVIEST, LIGHTEST, ewma_weight


def slow_average(scores, mean, weight):
    """Roberts' chart as a weighted sum of all scores so far, without recursion."""
    n = len(scores)
    past = sum(weight * (1 - weight) ** (n - 1 - i) * score for i, score in enumerate(scores))
    return (1 - weight) ** n * mean + past


@pytest.mark.parametrize("weight", [0.02, 0.2, 1.0])
def test_the_chart_equals_the_weighted_sum(weight):
    scores = np.random.default_rng(0).beta(1.2, 18, 50)
    chart = Ewma(0.06, weight)

    for n in range(1, 51):
        assert math.isclose(
            chart.update(scores[n - 1]), slow_average(scores[:n], 0.06, weight), rel_tol=1e-12
        )


def test_vectorised_step_equals_update():
    chart = Ewma(0.1, 0.3)
    stepped = chart.step(np.array([0.1, 0.5]), np.array([0.9, 0.9]))

    assert chart.update(0.9) == pytest.approx(stepped[0])
    assert stepped[1] == pytest.approx(0.62)


def test_every_detector_starts_where_its_statistic_starts_and_is_in_the_table_by_its_name():
    made = {
        "ewma": Ewma(0.1, 0.2),
        "cusum": DETECTORS["cusum"](0.1, 0.05),
        "bernoulli_cusum": DETECTORS["bernoulli_cusum"](0.1),
    }

    assert set(made) == set(DETECTORS)
    for name, detector in made.items():
        assert type(detector) is DETECTORS[name]
        assert detector.name == name
        assert detector.start == detector.statistic


@pytest.mark.parametrize(("deviation", "rise"), [(0.054, 0.05), (0.02, 0.05), (0.1, 0.2)])
def test_the_weight_puts_five_deviations_of_the_chart_at_half_the_rise(deviation, rise):
    weight = ewma_weight(deviation, rise)

    assert 5 * deviation * math.sqrt(weight / (2 - weight)) == pytest.approx(rise / 2)


def test_the_weight_stays_within_its_bounds():
    assert ewma_weight(0.0, 0.05) == ewma_weight(1e-6, 0.05) == HEAVIEST
    assert ewma_weight(10.0, 0.05) == LIGHTEST
