import math

import numpy as np
import pytest

from clearweight.service.drift import Cusum


@pytest.mark.parametrize("rise", [0.02, 0.2])
def test_the_chart_equals_the_best_suffix(rise):
    # Page's definition: how far the sum of deviations lies above its own minimum.
    scores = np.random.default_rng(1).beta(1.2, 9, 80)
    chart, mean = Cusum(0.1, rise), 0.1
    for n in range(1, 81):
        deviations = [score - (mean + rise / 2) for score in scores[:n]]
        slow = max([0.0, *(sum(deviations[start:]) for start in range(n))])
        assert math.isclose(chart.update(scores[n - 1]), slow, abs_tol=1e-12)


def test_vectorised_step_equals_update():
    chart = Cusum(0.1, 0.1)
    stepped = chart.step(np.array([0.0, 0.5]), np.array([0.4, 0.0]))

    assert chart.update(0.4) == pytest.approx(stepped[0])
    assert stepped[1] == pytest.approx(0.35)


def test_the_runtimes_noise_never_adds_up():
    chart = Cusum(1e-8, 1e-9, floor=3e-7)

    assert [chart.update(2.9e-7) for _ in range(100)] == [0.0] * 100
