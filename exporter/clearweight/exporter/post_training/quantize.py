"""Rate-distortion quantization of one matrix: each weight a multiple of a step, the later ones make up for it.

Column by column each weight takes the multiple that costs least, distortion plus multiplier times code length; what
the choice does to the layer's output is undone as far as the columns still to come can (Optimal Brain Surgeon:
Hassibi and Stork, NeurIPS 1992; column by column as in GPTQ: Frantar et al., ICLR 2023; with a rate in the cost as in
CERWU: Conzelmann and Bamler, arXiv 2505.18758). Code lengths are those of an ideal adaptive coder that knows, as our
range coder does, how busy a weight's row and column are; they follow the choices of the pass before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.post_training.moments import Moments

# Multiples on either side of zero: the codebook holds at most 255 values.
LEVELS = 127
# Rate over distortion at which a step is right for its multiplier: multiplier = this x curvature x step^2.
STEP_RATIO = 0.07
# Shares of the curvature's diagonal and of its mean that are added. A map shows weights one by one,
# where the answer sees their sum: a change costs the input x gradient what the diagonal says, the gradient the same for
# all inputs.
MAP_SHARE, GRADIENT_SHARE = 0.5, 0.01
PASSES = 2
_COLUMNS = 64  # whose corrections to the rest of a block are made at once
_BUCKETS = 9


@dataclass(frozen=True, eq=False)
class Leaning:
    """How far the columns of a matrix can make up for each other, block by block along the diagonal.

    Attributes
    ----------
    orders : places of a block's columns; those that matter most come first and have the most left to lean on
    factors : float64, upper triangular, (width, width): ``F' F`` is the inverse of the curvature in that order; may be
        read from a `Shelf`, so that it is best to take them one by one
    mean, rows : as of `Moments`
    """

    orders: tuple[NDArray[np.int64], ...]
    factors: Sequence[NDArray[np.float64]]
    mean: NDArray[np.float64]
    rows: NDArray[np.float64]


def curvature(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a block of second moments with what the attribution maps add to its diagonal."""
    diagonal = np.diag(block)
    mean = max(float(diagonal.mean()), float(np.finfo(np.float32).tiny))
    return block + np.diag(MAP_SHARE * diagonal + GRADIENT_SHARE * mean)


def leaning(
    moments: Moments,
    keep: Callable[[Iterable[NDArray[np.float64]]], Sequence[NDArray[np.float64]]] = tuple,
) -> Leaning:
    """Turn second moments into what quantization looks at; done once, however often is quantized.

    Parameters
    ----------
    keep : takes the factors in as they are made, such as `Shelf.keep`
    """
    orders = [np.argsort(-np.diag(block), kind="stable") for block in moments.blocks]

    def factors() -> Iterator[NDArray[np.float64]]:
        for block, order in zip(moments.blocks, orders, strict=True):
            inverse = np.linalg.inv(curvature(block)[np.ix_(order, order)])
            yield np.ascontiguousarray(np.linalg.cholesky((inverse + inverse.T) / 2).T)

    return Leaning(tuple(orders), keep(factors()), moments.mean, moments.rows)


def bend(columns: Leaning) -> float:
    """Return what a squared change of one weight costs on average, the others free to make up for it."""
    free = np.concatenate([1.0 / np.square(factor).sum(0) for factor in columns.factors])
    return max(float(columns.rows.mean() * free.mean()), float(np.finfo(np.float32).tiny))


def step_of(bent: float, multiplier: float, largest: float) -> float:
    """Return the step that suits a multiplier: the distortion of rounding to it is worth the bits it saves.

    Parameters
    ----------
    bent : what ``bend`` found
    largest : magnitude of the largest weight, which must lie within ``LEVELS`` steps
    """
    return float(np.clip(np.sqrt(multiplier / STEP_RATIO / bent), largest / LEVELS, largest))


def quantize(
    matrix: NDArray[np.floating], columns: Leaning, multiplier: float, step: float
) -> NDArray[np.int8]:
    """Choose a multiple of ``step`` for every weight.

    Parameters
    ----------
    matrix : (outputs, columns)
    multiplier : nats of divergence that a bit may cost

    Returns
    -------
    int8, (outputs, columns), from -127 to 127
    """
    rows = (columns.rows + 1e-3 * columns.rows.mean()) * step * step
    chosen = np.empty(matrix.shape, np.int8)
    for row, nearest in zip(matrix, chosen, strict=True):  # one by one: no second copy of a wide matrix
        nearest[:] = np.clip(np.rint(row / step), -LEVELS, LEVELS)
    for _ in range(PASSES):
        bits = multiplier * code_lengths(chosen)
        busy, start = activity(chosen), 0
        after = np.empty_like(chosen)
        for order, factor in zip(columns.orders, columns.factors, strict=True):
            places = start + order
            # Transposed: a column of the matrix lies in one piece.
            weights = matrix.T[places].astype(np.float64) / step
            after[:, places] = _quantize_block(weights, factor, rows, bits, busy.T[places]).T
            start += len(order)
        chosen = after
    return chosen


def _quantize_block(
    rest: NDArray[np.float64],
    factor: NDArray[np.float64],
    rows: NDArray[np.float64],
    bits: NDArray[np.float64],
    busy: NDArray[np.int8],
) -> NDArray[np.int16]:
    """Choose for one block, (columns, outputs) in its order; ``rest`` is used up."""
    chosen = np.empty(rest.shape, dtype=np.int16)
    for start in range(0, len(rest), _COLUMNS):
        stop = min(start + _COLUMNS, len(rest))
        errors = np.empty((stop - start, rest.shape[1]))
        for column in range(start, stop):
            scale = factor[column, column]
            chosen[column] = _cheapest(rest[column], rows / scale**2, bits, busy[column])
            errors[column - start] = (rest[column] - chosen[column]) / scale
            rest[column + 1 : stop] -= np.outer(factor[column, column + 1 : stop], errors[column - start])
        rest[stop:] -= factor[start:stop, stop:].T @ errors
    return chosen


def _cheapest(
    value: NDArray[np.float64], cost: NDArray[np.float64], bits: NDArray[np.float64], busy: NDArray[np.int8]
) -> NDArray[np.int16]:
    """Choose among the nearest multiple, its two neighbours and zero."""
    whole = np.zeros((4, len(value)), np.int16)
    whole[0] = np.rint(value).clip(-LEVELS - 1, LEVELS + 1)
    np.subtract(whole[0], 1, out=whole[1])
    np.add(whole[0], 1, out=whole[2])
    whole.clip(-LEVELS, LEVELS, out=whole)
    total = value - whole
    total *= total
    total *= cost
    # The rate of a weight lies in the row of its bucket, at its multiple.
    total += bits.take(busy * np.intp(bits.shape[1]) + LEVELS + whole)
    chosen: NDArray[np.int16] = whole[0].copy()
    least = total[0]
    for option, price in zip(whole[1:], total[1:], strict=True):
        better = price < least
        np.copyto(chosen, option, where=better)
        np.copyto(least, price, where=better)
    return chosen


def activity(chosen: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return how busy the row and the column of every weight are: a bucket, 0 to 8, an octave each."""
    kept = chosen != 0
    share = (np.count_nonzero(kept) + 1) / (kept.size + 2)
    column = (kept.sum(0) + 2 * share) / (len(kept) + 2)
    row = (kept.sum(1) + 4 * share) / (kept.shape[1] + 4)
    octaves = [np.floor(np.log2(part / share)).clip(-30, 30).astype(np.int8) for part in (row, column)]
    buckets: NDArray[np.int8] = np.clip(octaves[0][:, None] + octaves[1] + np.int8(5), 0, _BUCKETS - 1)
    return buckets


def code_lengths(chosen: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the bits of every multiple in every bucket, (9, 255), from how often each was chosen."""
    symbols = 2 * LEVELS + 1
    busy, flat = activity(chosen), np.zeros(_BUCKETS * symbols, dtype=np.int64)
    for place in range(len(chosen)):
        flat += np.bincount(
            busy[place].astype(np.int64) * symbols + chosen[place] + LEVELS, minlength=flat.size
        )
    counts = flat.reshape(_BUCKETS, symbols)
    overall = (counts.sum(0) + 0.3) / (counts.sum() + 0.3 * symbols)
    likely = (counts + 2 * overall) / (counts.sum(1, keepdims=True) + 2)
    lengths: NDArray[np.float64] = -np.log2(likely)
    return lengths
