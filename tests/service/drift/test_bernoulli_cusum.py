import math

import numpy as np
import pytest

from clearweight.service.drift import BernoulliCusum


def slow_cusum(events, p0, p1):
    """Largest log likelihood ratio of any suffix, the definition the recursion computes."""
    ratios = [math.log(p1 / p0) if event else math.log((1 - p1) / (1 - p0)) for event in events]
    return max([0.0, *(sum(ratios[start:]) for start in range(len(ratios)))])


@pytest.mark.parametrize(("p0", "p1"), [(0.01, 0.06), (0.2, 0.4), (0.5, 0.95)])
def test_the_chart_equals_the_best_suffix(p0, p1):
    events = np.random.default_rng(1).random(80) < 2 * p0
    chart = BernoulliCusum(p0)

    for n in range(1, 81):
        assert math.isclose(chart.update(float(events[n - 1])), slow_cusum(events[:n], p0, p1), abs_tol=1e-9)


def test_vectorised_step_equals_update():
    chart = BernoulliCusum(0.1)
    stepped = chart.step(np.array([0.0, 0.0]), np.array([1.0, 0.0]))

    assert chart.update(1.0) == pytest.approx(stepped[0])
    assert stepped[1] == 0.0
