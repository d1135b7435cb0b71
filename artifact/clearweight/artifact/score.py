"""How far two attribution maps of one input are apart; the meaning of the score names.

Every score is a distance in [0, 2], one number per row of the batch, NaN where it is undefined (a
zero, constant or non-finite map): undefined rows are counted by the caller, never dropped silently.
Maps are signed and of shape (N, C, *space) or flat (N, D). Definitions after Park et al., Attribution
Preservation in Network Compression, NeurIPS 2020 (1 - cosine), and Ghorbani et al., Interpretation of
Neural Networks is Fragile, 2017 (top-k intersection, rank correlation).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import ScoreShapeError

Scores = NDArray[np.float64]
POOLED_SIDE = {1: 28, 2: 14}  # trailing spatial axes -> cells per axis, at most
TOP_FRACTION = 0.1


def channel_sum(maps: NDArray[Any]) -> Scores:
    """Sum signed maps (N, C, *space) over channels; flat maps (N, D) stay as they are. Returns (N, D)."""
    batch = np.asarray(maps, dtype=np.float64)
    if batch.ndim < 2:
        raise ScoreShapeError(f"Maps of shape {batch.shape}, expected (N, D) or (N, C, *space).")
    with np.errstate(invalid="ignore", over="ignore"):  # infinities may cancel; such rows end undefined
        summed: Scores = batch.sum(axis=1) if batch.ndim > 2 else batch
    return _flat(summed)


def pool(maps: NDArray[Any]) -> Scores:
    """Average the magnitude of channel-summed maps over equal windows.

    Two trailing spatial axes pool to at most 14 x 14 cells, one to at most 28; an axis that does not
    divide evenly pools to the largest number of cells that divides it. Flat maps, and maps of three
    or more spatial axes, are not pooled: their magnitude is taken element by element.

    Parameters
    ----------
    maps : array, shape (N, C, *space) or (N, D)

    Returns
    -------
    float64, shape (N, cells); each row sums to 1, or is NaN where its map is zero or not finite

    Examples
    --------
    >>> pool(np.array([[[[1.0, -1.0], [2.0, 0.0]]]]))
    array([[0.25, 0.25, 0.5 , 0.  ]])
    """
    batch = np.asarray(maps, dtype=np.float64)
    magnitude = np.abs(_unit_scale(channel_sum(batch)))  # scaled first: a mean of tiny numbers stays exact
    space = batch.shape[2:]
    if len(space) in POOLED_SIDE:
        windows = _window_mean(magnitude.reshape(batch.shape[0], *space), POOLED_SIDE[len(space)])
        magnitude = _flat(windows)
    return _quotient(magnitude, magnitude.sum(axis=1, keepdims=True))


def pooled_cells(side: int, at_most: int) -> int:
    """Find the largest divisor of ``side`` that is at most ``at_most``.

    Examples
    --------
    >>> [pooled_cells(side, 14) for side in (28, 32, 8, 17)]
    [14, 8, 8, 1]
    """
    return next(cells for cells in range(min(side, at_most), 0, -1) if side % cells == 0)


def cosine_distance(a: NDArray[Any], b: NDArray[Any]) -> Scores:
    """1 - cosine of the signed, channel-summed maps at full resolution; undefined for a zero map."""
    return _one_minus_cosine(*_paired(a, b, channel_sum))


def pooled_cosine_distance(a: NDArray[Any], b: NDArray[Any]) -> Scores:
    """1 - cosine of the pooled maps; undefined for a zero map."""
    return _one_minus_cosine(*_paired(a, b, pool))


def pooled_top10_iou_distance(a: NDArray[Any], b: NDArray[Any]) -> Scores:
    """1 - intersection over union of the top 10 % of cells (at least one); ties go to the lower index."""
    p, q = _paired(a, b, pool)
    if p.shape[1] == 0:
        return np.full(p.shape[0], np.nan)
    count = max(1, round(TOP_FRACTION * p.shape[1]))
    common = (_top(p, count) & _top(q, count)).sum(axis=1)
    return _defined(1.0 - common / (2 * count - common), p, q)


def pooled_spearman_distance(a: NDArray[Any], b: NDArray[Any]) -> Scores:
    """1 - rank correlation of the pooled maps, average ranks for ties; undefined for a constant map."""
    p, q = _paired(a, b, pool)
    ranks_p, ranks_q = average_ranks(p), average_ranks(q)
    centre = (p.shape[1] + 1) / 2
    return _defined(_one_minus_cosine(ranks_p - centre, ranks_q - centre), p, q)


SCORES: dict[str, Callable[[NDArray[Any], NDArray[Any]], Scores]] = {
    "cosine": cosine_distance,
    "pooled_cosine": pooled_cosine_distance,
    "pooled_top10_iou": pooled_top10_iou_distance,
    "pooled_spearman": pooled_spearman_distance,
}


def average_ranks(rows: Scores) -> Scores:
    """Rank each row from 1; equal values share the mean of their places.

    Examples
    --------
    >>> average_ranks(np.array([[3.0, 1.0, 3.0]]))
    array([[2.5, 1. , 2.5]])
    """
    n, width = rows.shape
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    starts = np.ones((n, width), dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    group = np.cumsum(starts.reshape(-1)) - 1  # a new row always starts a new group
    places = np.tile(np.arange(1.0, width + 1), n)
    mean_place = np.bincount(group, weights=places) / np.bincount(group) if group.size else places
    ranks = np.empty((n, width))
    np.put_along_axis(ranks, order, mean_place[group].reshape(n, width), axis=1)
    return ranks


def _paired(
    a: NDArray[Any], b: NDArray[Any], prepare: Callable[[NDArray[Any]], Scores]
) -> tuple[Scores, Scores]:
    if np.shape(a) != np.shape(b):
        raise ScoreShapeError(f"Maps of shapes {np.shape(a)} and {np.shape(b)}, expected one shape.")
    return prepare(a), prepare(b)


def _one_minus_cosine(p: Scores, q: Scores) -> Scores:
    # Scaling by the largest magnitude first keeps squares of tiny maps from vanishing.
    p, q = _unit_scale(p), _unit_scale(q)
    cosine = _quotient((p * q).sum(axis=1), np.sqrt((p * p).sum(axis=1) * (q * q).sum(axis=1)))
    return 1.0 - np.clip(cosine, -1.0, 1.0)


def _unit_scale(rows: Scores) -> Scores:
    return _quotient(rows, np.abs(rows).max(axis=1, keepdims=True, initial=0.0))


def _flat(rows: Scores) -> Scores:
    return rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))  # -1 cannot be inferred for empty batches


def _quotient(numbers: Scores, by: Scores) -> Scores:
    # NaN where the divisor is zero or not finite: such a row has no score.
    undefined = np.full(np.broadcast_shapes(numbers.shape, by.shape), np.nan)
    quotient: Scores = np.divide(numbers, by, out=undefined, where=np.isfinite(by) & (by > 0))
    return quotient


def _top(rows: Scores, count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(rows.shape, dtype=bool)
    order = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def _defined(scores: Scores, p: Scores, q: Scores) -> Scores:
    lost = np.isnan(p).any(axis=1) | np.isnan(q).any(axis=1)
    return np.where(lost, np.nan, scores)


def _window_mean(magnitude: Scores, at_most: int) -> Scores:
    for axis in range(1, magnitude.ndim):
        side = magnitude.shape[axis]
        if side == 0:
            continue
        cells = pooled_cells(side, at_most)
        split = (*magnitude.shape[:axis], cells, side // cells, *magnitude.shape[axis + 1 :])
        magnitude = magnitude.reshape(split).mean(axis=axis + 1)
    return magnitude
