"""How alike two sets of attribution maps are, image by image, at full resolution.

The counterpart of ``clearweight.artifact.score``, whose distances are pooled for live monitoring. All
functions take maps (N, ...) whose channels are summed already and return one float64 per image, NaN where
the similarity is undefined: a zero, constant or non-finite map. Undefined images are counted, never dropped
in silence and never set to 0 or 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.manifest import Summary
from clearweight.artifact.score import average_ranks, cosine_distance
from clearweight.exporter.errors import DataError

Values = NDArray[np.float64]
TOP_FRACTION = 0.1
_TWO_SIDED_95 = 1.959963984540054


def cosine(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """<a, b> / (|a| |b|) of the signed maps; undefined for a zero map."""
    return 1.0 - cosine_distance(_flat(a), _flat(b))


def spearman(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """Rank correlation of the signed maps, average ranks for ties; undefined for a constant map."""
    first, second = _flat(a), _flat(b)
    centre = (first.shape[1] + 1) / 2
    correlation = 1.0 - cosine_distance(average_ranks(first) - centre, average_ranks(second) - centre)
    return np.where(np.isfinite(first).all(1) & np.isfinite(second).all(1), correlation, np.nan)


def top10_iou(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """Intersection over union of the tenth of positions with the largest magnitude, at least one.

    Ties go to the lower index. Undefined for a zero map, which has no largest magnitude.
    """
    first, second = np.abs(_flat(a)), np.abs(_flat(b))
    count = max(1, round(TOP_FRACTION * first.shape[1]))
    common = (_largest(first, count) & _largest(second, count)).sum(axis=1)
    defined = np.ones(len(first), dtype=bool)
    for magnitude in (first, second):
        defined &= np.isfinite(magnitude).all(axis=1) & (magnitude > 0).any(axis=1)
    return np.where(defined, common / (2 * count - common), np.nan)


def undefined(values: Values) -> int:
    """Count the images without a value."""
    return int(np.isnan(values).sum())


def mean(values: Values) -> float | None:
    """Mean over the images that have a value; None if none has."""
    return float(np.nanmean(values)) if undefined(values) < len(values) else None


def summary(values: Values) -> Summary:
    """Mean and quantiles over the images that have a value, as the manifest keeps them.

    Raises
    ------
    DataError
        No image has a value.
    """
    kept = values[~np.isnan(values)]
    if kept.size == 0:
        raise DataError(f"All {len(values)} similarities are undefined: every map is zero or constant.")
    low, middle, high = np.quantile(kept, (0.05, 0.5, 0.95))
    return Summary(mean=float(kept.mean()), q05=float(low), q50=float(middle), q95=float(high))


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two models on the same images, with its 95 % interval."""

    mean: float
    low: float
    high: float
    images: int


def paired_difference(values: NDArray[Any], others: NDArray[Any]) -> PairedDifference:
    """Mean of ``values - others`` over the images where both are defined.

    The interval is that of the mean, +- 1.96 s / sqrt(n); pairing removes the spread between images.

    Raises
    ------
    DataError
        Fewer than two images are defined on both sides.
    """
    difference = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    if difference.size < 2:
        raise DataError(f"{difference.size} paired images, expected at least 2 for an interval.")
    centre = float(difference.mean())
    half = _TWO_SIDED_95 * float(difference.std(ddof=1)) / float(np.sqrt(difference.size))
    return PairedDifference(centre, centre - half, centre + half, int(difference.size))


def gap_closed(similarity: float | None, floor: float | None) -> float | None:
    """(similarity - floor) / (1 - floor): the share of what independent training leaves open.

    The floor is the similarity of a second reference, trained from another seed. None without either, or
    where the floor leaves nothing open.
    """
    if similarity is None or floor is None or floor >= 1.0:
        return None
    return (similarity - floor) / (1.0 - floor)


def _flat(maps: NDArray[Any]) -> Values:
    return np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)


def _largest(rows: Values, count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-rows, axis=1, kind="stable")[:, :count], values=True, axis=1)
    return chosen
