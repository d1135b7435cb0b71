import numpy as np
import pytest

from clearweight.service.drift.dependence import LiveDependence
from clearweight.service.drift.null import score_null
from tests.service.drift.streams import RISE, clean, shipped

MARGINAL = score_null(shipped(), rise=RISE).marginal


def measured(scores, shipped_autocorrelation=0.0):
    live = LiveDependence(MARGINAL)
    for score in scores:
        live.add(score)
    return live.above(shipped_autocorrelation)


@pytest.mark.parametrize("rho", [0.5, 0.8])
def test_dependence_of_the_live_stream_is_found_and_rounded_up(rho):
    found = measured(clean(4000, 1, rho))

    assert rho <= found <= rho + 0.12  # of the normal values, a little above the scores' own


def test_independent_scores_and_what_was_shipped_anyway_say_nothing():
    assert all(measured(clean(2000, seed)) is None for seed in range(20))
    assert measured(clean(4000, 1, 0.5), shipped_autocorrelation=0.6) is None
    assert measured(clean(50, 1, 0.9)) is None


@pytest.mark.parametrize("rise", [0.02, 0.1])
def test_a_change_of_level_cannot_pass_for_dependence(rise):
    steps, ramp = clean(6000, 4), clean(6000, 5)
    steps[1000::2000] += rise
    steps[3000:] += rise
    ramp += np.linspace(0, rise, 6000)
    usual = 1 - np.mean(np.diff(steps) ** 2) / (2 * steps.var())
    assert usual > 0.02

    assert measured(steps) is None
    assert measured(ramp) is None


def test_a_stream_that_stands_still_says_nothing():
    assert measured(np.full(2000, 0.05)) is None
    assert measured(np.concatenate([clean(300, 1), np.full(2000, 0.9)])) is None


def test_a_window_has_the_bias_that_is_taken_off():
    # Written out: one window's autocorrelation is too low by (1 + 3 r) / m on average.
    found = []
    for seed in range(200):
        live = LiveDependence(np.linspace(-6, 6, 2401))  # scores that are normal values themselves
        rng, value = np.random.default_rng(seed), 0.0
        for _ in range(256):
            value = 0.6 * value + 0.8 * rng.standard_normal()
            live.add(value)
        found += live.windows

    assert np.mean(found) == pytest.approx(0.6 - (1 + 3 * 0.6) / 128, abs=0.012)
