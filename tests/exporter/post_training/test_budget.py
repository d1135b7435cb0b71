import numpy as np
import pytest

from clearweight.exporter.post_training import Budget, gather, search
from clearweight.exporter.post_training.budget import GRID, divergence
from tests.exporter.post_training.networks import cnn, exported, rows

ROW = (2, 10, 10)


@pytest.fixture(scope="module")
def network():
    model = exported(cnn(), ROW)
    return model, gather(model, rows(60, ROW))


@pytest.mark.parametrize("budget", [Budget(1e-3, -1.0), Budget(9.0, 0.95)])
def test_the_largest_multiplier_inside_either_budget_is_found(network, budget):
    model, statistics = network
    tried = []
    found = search(statistics, model, rows(60, ROW, seed=1), budget, on_try=tried.append)

    assert found.within(budget)
    larger = [other for other in tried if other.multiplier > found.multiplier]
    assert larger
    assert not any(other.within(budget) for other in larger)
    assert len(tried) <= np.log2(len(GRID)) + 1.01


def test_a_budget_nothing_keeps_gives_the_nearest(network):
    model, statistics = network
    found = search(statistics, model, rows(20, ROW, seed=1), Budget(0.0, 1.1))

    assert found.multiplier == GRID[0]
    assert not found.within(Budget(0.0, 1.1))


def test_divergence_is_kullback_and_leiblers():
    a, b = np.array([[1.0, 2.0, 0.5]], np.float32), np.array([[0.0, 2.5, 1.0]], np.float32)
    f, g = (np.exp(z[0]) / np.exp(z[0]).sum() for z in (a, b))

    assert divergence(a, b) == pytest.approx(float((f * np.log(f / g)).sum()), rel=1e-6)
    assert divergence(a, a) == pytest.approx(0.0, abs=1e-12)
