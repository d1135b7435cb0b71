import itertools

import numpy as np
import pytest

from clearweight.exporter.post_training.moments import Moments
from clearweight.exporter.post_training.quantize import (
    LEVELS,
    activity,
    bend,
    code_lengths,
    curvature,
    leaning,
    quantize,
    step_of,
)


def problem(outputs: int = 24, columns: int = 40, seed: int = 0) -> tuple[np.ndarray, Moments]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(500, columns)) @ (
        np.eye(columns) + 0.5 * random.normal(size=(columns, columns))
    )
    matrix = random.normal(size=(outputs, columns))
    return matrix, Moments((inputs.T @ inputs / 500,), inputs.mean(0), random.random(outputs))


def distortion(matrix: np.ndarray, chosen: np.ndarray, step: float, seen: Moments) -> float:
    lost = matrix - chosen * step
    return float(
        sum(g * row @ curvature(seen.blocks[0]) @ row for g, row in zip(seen.rows, lost, strict=True))
    )


def test_errors_are_made_up_for_so_that_it_beats_rounding():
    matrix, seen = problem()
    chosen = quantize(matrix, leaning(seen), 0.0, 0.4)

    assert distortion(matrix, chosen, 0.4, seen) < 0.8 * distortion(matrix, np.rint(matrix / 0.4), 0.4, seen)


def test_a_single_row_is_near_the_best_of_all_choices():
    matrix, seen = problem(1, 5)
    near = [sorted({np.floor(w / 0.5), np.ceil(w / 0.5)}) for w in matrix[0]]
    best = min(distortion(matrix, np.array([c]), 0.5, seen) for c in itertools.product(*near))

    assert distortion(matrix, quantize(matrix, leaning(seen), 0.0, 0.5), 0.5, seen) <= 1.3 * best


def entropy(chosen: np.ndarray) -> float:
    counts = np.unique(chosen, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def test_a_larger_multiplier_buys_fewer_bits_with_more_distortion():
    matrix, seen = problem()
    results = [quantize(matrix, leaning(seen), multiplier, 0.3) for multiplier in (0.0, 0.1, 0.5, 2.0)]
    bits = [entropy(chosen) for chosen in results]
    lost = [distortion(matrix, chosen, 0.3, seen) for chosen in results]

    assert bits == sorted(bits, reverse=True)
    assert lost == sorted(lost)
    assert bits[-1] < 0.85 * bits[0]


def test_at_equal_bits_the_multiplier_beats_a_coarser_step():
    matrix, seen = problem()
    chosen = quantize(matrix, leaning(seen), 0.05, 0.5)
    coarser = next(
        q for step in np.arange(0.5, 3, 0.01) if entropy(q := np.rint(matrix / step)) <= entropy(chosen)
    )
    scale = float((coarser * matrix).sum() / np.square(coarser).sum())

    assert distortion(matrix, chosen, 0.5, seen) < distortion(matrix, coarser, scale, seen)


def test_columns_that_no_input_reaches_are_dropped_and_rows_that_matter_are_kept():
    matrix, seen = problem()
    block = seen.blocks[0].copy()
    block[:10] = block[:, :10] = 0.0
    rows = seen.rows.copy()
    rows[:12], rows[12:] = 10.0, 0.01
    chosen = quantize(matrix, leaning(Moments((block,), seen.mean, rows)), 1.0, 1.0)

    assert np.count_nonzero(chosen[12:, :10]) < 0.1 * np.count_nonzero(chosen[:12, 10:])
    assert np.count_nonzero(chosen[:12, 10:]) > 3 * np.count_nonzero(chosen[12:, 10:])


def test_blocks_are_quantized_by_themselves():
    matrix, seen = problem(6, 12)
    halves = tuple(seen.blocks[0][s, s] for s in (slice(0, 6), slice(6, 12)))
    whole = quantize(matrix, leaning(Moments(halves, seen.mean, seen.rows)), 0.0, 0.3)
    left = quantize(matrix[:, :6], leaning(Moments(halves[:1], seen.mean[:6], seen.rows)), 0.0, 0.3)

    assert np.array_equal(whole[:, :6], left)


def test_factors_give_the_inverse_of_the_curvature_the_columns_that_matter_most_first():
    _, seen = problem()
    columns = leaning(seen)
    order, factor = columns.orders[0], columns.factors[0]

    assert (np.diff(np.diag(seen.blocks[0])[order]) <= 0).all()
    assert np.array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(
        factor.T @ factor @ curvature(seen.blocks[0])[np.ix_(order, order)], np.eye(len(order)), atol=1e-9
    )


def test_each_column_takes_its_nearest_multiple_after_what_the_columns_before_left():
    """Without a price on bits, against the definition column by column: solve for what the others would best be."""
    matrix, seen = problem(3, 7)
    columns, step = leaning(seen), 0.5
    order, bent = columns.orders[0], curvature(seen.blocks[0])
    weights, expected = matrix.copy(), np.zeros((3, 7))
    for done, column in enumerate(order):
        expected[:, column] = np.rint(weights[:, column] / step)
        error = weights[:, column] - step * expected[:, column]
        rest = order[done + 1 :]
        # The change d of the others that makes (e, d) H (e, d)' least: d = -H_rest,rest^-1 H_rest,column e.
        change = np.linalg.solve(bent[np.ix_(rest, rest)], bent[rest, column])
        weights[:, rest] += np.outer(error, change)
        weights[:, column] = step * expected[:, column]

    assert np.array_equal(quantize(matrix, columns, 0.0, step), expected)


def test_steps_follow_the_multiplier_within_the_codebook():
    _, seen = problem()
    bent = bend(leaning(seen))

    assert bent == pytest.approx(
        float(seen.rows.mean() * (1 / np.diag(np.linalg.inv(curvature(seen.blocks[0])))).mean())
    )
    assert step_of(bent, 4e-4, 1.0) == pytest.approx(2 * step_of(bent, 1e-4, 1.0))
    assert step_of(bent, 1e-30, 3.0) == pytest.approx(3.0 / LEVELS)
    assert step_of(bent, 1e9, 3.0) == 3.0


def test_code_lengths_are_those_of_the_histogram_of_each_bucket():
    chosen = np.zeros((64, 64), dtype=np.int16)
    chosen[:, :8] = np.random.default_rng(0).integers(-2, 3, size=(64, 8))
    lengths, busy = code_lengths(chosen), activity(chosen)

    assert len(np.unique(busy)) > 1
    assert busy[:, 20:].max() < busy[:, :8].min()
    dead, live = busy[0, 20], busy[0, 0]
    assert lengths[dead, LEVELS] < 0.05
    assert lengths[live, LEVELS] > 1.0
    np.testing.assert_allclose(np.exp2(-lengths).sum(1), 1.0, rtol=1e-9)
