"""Similarities against their definitions and scipy."""

import numpy as np
import pytest
import scipy.stats

from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate import (
    cosine,
    gap_closed,
    mean,
    paired_difference,
    spearman,
    ssim,
    summary,
    top10_iou,
    undefined,
)

RNG = np.random.default_rng(41)
A = RNG.normal(size=(12, 5, 8)).astype(np.float32)
B = (A + RNG.normal(size=A.shape)).astype(np.float32)
TIED = np.round(B)


def test_cosine_is_the_normalised_inner_product():
    for a, b, value in zip(A.reshape(12, -1), B.reshape(12, -1), cosine(A, B), strict=True):
        assert value == pytest.approx(sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5, rel=1e-5)


def test_cosine_keeps_the_sign():
    assert cosine(A, -2 * A) == pytest.approx(-1.0)


@pytest.mark.parametrize("other", [B, TIED])
def test_spearman_equals_scipy(other):
    for a, b, value in zip(A.reshape(12, -1), other.reshape(12, -1), spearman(A, other), strict=True):
        assert value == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def slow_iou(a, b):
    def top(values):
        order = sorted(range(len(values)), key=lambda index: (-abs(values[index]), index))
        return set(order[: max(1, round(0.1 * len(values)))])

    return len(top(a) & top(b)) / len(top(a) | top(b))


@pytest.mark.parametrize("other", [B, TIED, -A])
def test_top_tenth_is_by_magnitude_with_ties_to_the_lower_index(other):
    for a, b, value in zip(A.reshape(12, -1), other.reshape(12, -1), top10_iou(A, other), strict=True):
        assert value == pytest.approx(slow_iou(a, b))


def test_small_maps_have_one_top_position():
    assert top10_iou(np.array([[1.0, 5.0, 2.0]]), np.array([[0.0, -9.0, 2.0]])).tolist() == [1.0]


ZERO = np.zeros((1, 10))
FLAT = np.full((1, 10), 3.0)
BROKEN = np.arange(10.0)[None].copy()
BROKEN[0, 3] = np.inf
GOOD = np.arange(10.0)[None]


@pytest.mark.parametrize(
    ("measure", "maps"),
    [
        (cosine, ZERO),
        (cosine, BROKEN),
        (spearman, ZERO),
        (spearman, FLAT),
        (spearman, BROKEN),
        (top10_iou, ZERO),
        (top10_iou, BROKEN),
    ],
)
def test_zero_constant_and_broken_maps_are_undefined_on_either_side(measure, maps):
    assert np.isnan(measure(maps, GOOD)).all()
    assert np.isnan(measure(GOOD, maps)).all()


def test_undefined_values_are_counted_and_left_out_of_the_mean():
    values = np.array([1.0, np.nan, 0.5])

    assert undefined(values) == 1
    assert mean(values) == 0.75
    assert mean(np.array([np.nan])) is None
    assert summary(values).mean == 0.75


def test_summary_has_the_quantiles():
    result = summary(np.linspace(0, 1, 101))

    assert (result.mean, result.q05, result.q50, result.q95) == pytest.approx((0.5, 0.05, 0.5, 0.95))


def test_summary_of_nothing_is_a_named_error():
    with pytest.raises(DataError, match="All 3 similarities are undefined"):
        summary(np.full(3, np.nan))


def test_paired_interval_is_that_of_the_mean_difference():
    a, b = RNG.normal(size=200), RNG.normal(size=200) + 0.3
    expected = scipy.stats.norm.interval(0.95, (a - b).mean(), scipy.stats.sem(a - b))

    result = paired_difference(a, b)

    assert (result.low, result.high) == pytest.approx(expected)
    assert (result.mean, result.images) == (pytest.approx((a - b).mean()), 200)


def test_paired_difference_leaves_out_images_undefined_on_either_side():
    result = paired_difference(np.array([1.0, np.nan, 3.0, 4.0]), np.array([0.0, 1.0, 1.0, np.nan]))

    assert (result.mean, result.images) == (1.5, 2)
    with pytest.raises(DataError, match="1 paired images"):
        paired_difference(np.array([1.0, np.nan]), np.array([1.0, 1.0]))


@pytest.mark.parametrize(
    ("similarity", "floor", "expected"),
    [
        (0.9, 0.8, 0.5),
        (0.7, 0.8, -0.5),
        (1.0, 0.8, 1.0),
        (None, 0.8, None),
        (0.9, None, None),
        (1.0, 1.0, None),
    ],
)
def test_gap_closed_is_the_share_above_the_floor(similarity, floor, expected):
    assert gap_closed(similarity, floor) == (None if expected is None else pytest.approx(expected))


def slow_ssim(x, y):
    """One window of 7 x 7 at a time, after equation 13."""
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    found = []
    for i in range(x.shape[0] - 6):
        for j in range(x.shape[1] - 6):
            p, q = x[i : i + 7, j : j + 7], y[i : i + 7, j : j + 7]
            shared = np.mean((p - p.mean()) * (q - q.mean()))
            a = (2 * p.mean() * q.mean() + 0.02**2) * (2 * shared + 0.06**2)
            found.append(a / ((p.mean() ** 2 + q.mean() ** 2 + 0.02**2) * (p.var() + q.var() + 0.06**2)))
    return np.mean(found)


def test_ssim_is_the_papers():
    rng = np.random.default_rng(61)
    a, b = rng.normal(size=(3, 9, 12)), rng.normal(size=(3, 9, 12))

    np.testing.assert_allclose(ssim(a, b), [slow_ssim(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(ssim(a, 3 * a), 1)
    assert (np.abs(ssim(a, b)) < 0.4).all()
    assert ssim(rng.normal(size=(2, 5)), rng.normal(size=(2, 5))).shape == (
        2,
    )  # flat and shorter than a window


def test_ssim_of_an_empty_map_is_undefined():
    a = np.ones((2, 8, 8))
    a[1] = 0

    assert np.isnan(ssim(a, np.ones((2, 8, 8)))).tolist() == [False, True]
