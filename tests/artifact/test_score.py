import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from clearweight.artifact.errors import ScoreShapeError
from clearweight.artifact.score import (
    SCORES,
    average_ranks,
    channel_sum,
    cosine_distance,
    pool,
    pooled_cells,
    pooled_cosine_distance,
    pooled_spearman_distance,
    pooled_top10_iou_distance,
)

SHAPES = [(5, 3, 28, 28), (4, 1, 32, 20), (3, 2, 140), (6, 50), (2, 1, 7, 7), (2, 1, 4, 4, 4), (2, 1, 17, 13)]


def pair(shape, seed=0):
    random = np.random.default_rng(seed)
    a = random.normal(size=shape)
    return a, a + 0.5 * random.normal(size=shape)


def slow_pool(sample):
    """Pool one map (C, *space) or (D,), cell by cell."""
    if sample.ndim == 1:
        cells = np.abs(sample)
    else:
        signed = sample.sum(axis=0)
        most = {1: 28, 2: 14}.get(signed.ndim)
        if most is None:
            cells = np.abs(signed).reshape(-1)
        else:
            sides = [max(d for d in range(1, most + 1) if side % d == 0) for side in signed.shape]
            cells = np.empty(sides)
            for cell in np.ndindex(*sides):
                window = tuple(
                    slice(c * (side // n), (c + 1) * (side // n))
                    for c, side, n in zip(cell, signed.shape, sides, strict=True)
                )
                cells[cell] = np.abs(signed[window]).mean()
            cells = cells.reshape(-1)
    return cells / cells.sum()


def slow_cosine(p, q):
    return 1 - p @ q / np.sqrt((p @ p) * (q @ q))


def slow_top10_iou(p, q):
    k = max(1, round(0.1 * p.size))
    tops = [set(sorted(range(r.size), key=lambda i, r=r: (-r[i], i))[:k]) for r in (p, q)]
    return 1 - len(tops[0] & tops[1]) / len(tops[0] | tops[1])


def flat(sample):
    return sample if sample.ndim == 1 else sample.sum(axis=0).reshape(-1)


SLOW = {
    "cosine": lambda a, b: slow_cosine(flat(a), flat(b)),
    "pooled_cosine": lambda a, b: slow_cosine(slow_pool(a), slow_pool(b)),
    "pooled_top10_iou": lambda a, b: slow_top10_iou(slow_pool(a), slow_pool(b)),
    "pooled_spearman": lambda a, b: 1 - spearmanr(slow_pool(a), slow_pool(b)).statistic,
}


def test_every_score_has_a_slow_twin():
    assert set(SCORES) == set(SLOW)


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_scores_equal_their_slow_twins(name, shape):
    a, b = pair(shape)
    expected = [SLOW[name](x, y) for x, y in zip(a, b, strict=True)]

    assert SCORES[name](a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pooling_equals_its_slow_twin_and_sums_to_one(shape):
    a = pair(shape)[0]

    assert pool(a) == pytest.approx(np.array([slow_pool(x) for x in a]))
    assert pool(a).sum(axis=1) == pytest.approx(1.0)


def test_pooling_takes_the_largest_divisor():
    assert [pooled_cells(side, 14) for side in (224, 28, 32, 30, 14, 9, 1, 17)] == [
        14,
        14,
        8,
        10,
        14,
        9,
        1,
        1,
    ]
    assert pooled_cells(140, 28) == 28


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_map_is_at_no_distance_from_itself_and_scale_does_not_matter(name):
    a, b = pair((4, 1, 28, 28))

    assert SCORES[name](a, a) == pytest.approx(0.0, abs=1e-12)
    for scale in (1e-30, 1e30):
        assert SCORES[name](a * scale, b) == pytest.approx(SCORES[name](a, b))
    assert SCORES[name](a * 1e-300, b) == pytest.approx(SCORES[name](a, b))


def test_signed_cosine_reaches_two_and_pooled_ones_ignore_the_sign():
    a = pair((3, 1, 28, 28))[0]

    assert cosine_distance(a, -a) == pytest.approx(2.0)
    assert pooled_cosine_distance(a, -a) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_zero_and_non_finite_maps_are_undefined_and_only_they(name, bad, side):
    maps = list(pair((3, 2, 28, 28)))
    maps[side][1] = bad
    scores = SCORES[name](*maps)

    assert np.isnan(scores).tolist() == [False, True, False]


@pytest.mark.parametrize("name", sorted(SCORES))
def test_one_non_finite_element_makes_a_map_undefined(name):
    a, b = pair((2, 1, 28, 28))
    a[0, 0, 3, 3] = np.nan
    b[1, 0, 3, 3] = np.inf

    assert np.isnan(SCORES[name](a, b)).all()


def test_infinities_that_cancel_over_channels_are_undefined():
    a, b = pair((1, 2, 4, 4))
    a[0, :, 0, 0] = [np.inf, -np.inf]

    assert np.isnan(cosine_distance(a, b)).all()


def test_a_constant_map_has_no_rank_correlation_but_has_the_others():
    a, b = pair((2, 1, 28, 28))
    a[0] = 3.0

    assert np.isnan(pooled_spearman_distance(a, b)).tolist() == [True, False]
    assert np.isfinite(pooled_cosine_distance(a, b)).all()
    assert np.isfinite(pooled_top10_iou_distance(a, b)).all()


def test_ties_of_the_top_go_to_the_lower_index():
    a, b = np.ones((1, 20)), np.ones((1, 20))
    b[0, :2] = 2.0

    assert pooled_top10_iou_distance(a, b) == pytest.approx(0.0)
    assert pooled_top10_iou_distance(a, b[:, ::-1]) == pytest.approx(1.0)


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=5))
def test_average_ranks_are_those_of_the_textbook(rows):
    assert average_ranks(np.array(rows, dtype=float)).tolist() == [rankdata(row).tolist() for row in rows]


def test_channel_sum_keeps_the_sign_and_flattens():
    assert channel_sum(np.array([[[[1.0]], [[-3.0]]]])).tolist() == [[-2.0]]
    assert channel_sum(np.array([[1.0, -3.0]])).tolist() == [[1.0, -3.0]]


@pytest.mark.parametrize("name", sorted(SCORES))
def test_empty_batches_have_no_scores_and_empty_maps_are_undefined(name):
    assert SCORES[name](np.zeros((0, 1, 4, 4)), np.zeros((0, 1, 4, 4))).shape == (0,)
    assert np.isnan(SCORES[name](np.zeros((2, 0)), np.zeros((2, 0)))).all()


def test_half_precision_maps_are_scored_in_double():
    a, b = (x.astype(np.float16) * np.float16(1000) for x in pair((3, 1, 28, 28)))

    assert cosine_distance(a, b) == pytest.approx(
        [slow_cosine(flat(x), flat(y)) for x, y in zip(a.astype(float), b.astype(float), strict=True)]
    )


def test_batches_of_different_shapes_and_bare_vectors_are_refused():
    with pytest.raises(ScoreShapeError):
        cosine_distance(np.ones((2, 4)), np.ones((2, 5)))
    with pytest.raises(ScoreShapeError):
        cosine_distance(np.ones(4), np.ones(4))
