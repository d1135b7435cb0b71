"""The rate-distortion bound, against the Gaussian formula, brute force, and a quantizer that must stay above it."""

import itertools

import numpy as np
import pytest

from clearweight.exporter.compress.rate_quantizer import entropy_bits, quantize
from clearweight.exporter.rate_distortion import water_filling


def test_equal_weights_have_the_gaussian_rate():
    found = water_filling(np.full(10, 4.0), np.ones(10), 10.0)

    assert found.bits == pytest.approx(10 * 0.5 * np.log2(4.0))
    assert np.allclose(found.distortions, 1.0)


def test_no_other_split_of_the_distortion_needs_fewer_bits():
    moments, curvatures = np.array([1.0, 2.0, 0.1]), np.array([3.0, 0.5, 1.0])
    found = water_filling(moments, curvatures, 1.2)
    grid = np.linspace(0.02, 1.0, 60)
    best = np.inf
    for shares in itertools.product(grid, repeat=3):
        distortions = moments * np.array(shares)
        if (curvatures * distortions).sum() <= 1.2:
            best = min(best, float(np.log2(1 / np.array(shares)).sum() / 2))

    assert (curvatures * found.distortions).sum() == pytest.approx(1.2)
    assert found.bits <= best
    assert best - found.bits < 0.1
    assert found.bits == pytest.approx(float(np.log2(moments / found.distortions).sum() / 2))


def test_what_may_be_wholly_wrong_takes_no_bits():
    moments, curvatures = np.array([1.0, 5.0]), np.array([2.0, 0.0])

    assert water_filling(moments, curvatures, 2.0).bits == 0.0
    assert water_filling(moments, curvatures, 0.5).distortions[1] == 5.0


def test_an_exact_code_is_refused():
    with pytest.raises(ValueError, match="positive"):
        water_filling(np.ones(2), np.ones(2), 0.0)


@pytest.mark.parametrize("multiplier", [0.02, 0.1, 0.3])
def test_entropy_constrained_quantization_of_gaussian_weights_stays_just_above_the_bound(multiplier):
    """A scalar quantizer with entropy coding is within a quarter of a bit of the bound (Gish and Pierce 1968)."""
    weight = np.random.default_rng(0).normal(size=20_000)
    book, indices = quantize(weight, np.ones_like(weight), np.linspace(-4, 4, 31), multiplier, rounds=200)
    distortion = float(((weight - book[indices]) ** 2).sum())
    bound = water_filling(np.ones_like(weight), np.ones_like(weight), distortion).bits
    gap = (entropy_bits(indices) - bound) / len(weight)

    assert 0.0 < gap < 0.27
