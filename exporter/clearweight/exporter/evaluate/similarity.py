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
_SSIM_SIDE = 7
_SSIM_RANGE = 2.0
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


def ssim(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """Structural similarity of two signed maps (N, *space), each scaled to [-1, 1] by its largest magnitude.

    The mean over all windows of 7 places a side (fewer on a shorter axis) that lie inside the map, uniform weights,
    population statistics, range 2. Undefined for a zero map.

    References
    ----------
    Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004, equation 13.
    """
    first, second = (np.asarray(maps, dtype=np.float64) for maps in (a, b))
    found = np.full(len(first), np.nan)
    for index, (x, y) in enumerate(zip(first, second, strict=True)):
        scales = [np.abs(one).max(initial=0.0) for one in (x, y)]
        if np.isfinite(scales).all() and min(scales) > 0:
            found[index] = _mean_ssim(x / scales[0], y / scales[1])
    return found


def _mean_ssim(x: Values, y: Values) -> float:
    sides = tuple(min(_SSIM_SIDE, length) for length in x.shape)
    axes = tuple(range(x.ndim, 2 * x.ndim))
    p, q = (np.lib.stride_tricks.sliding_window_view(one, sides) for one in (x, y))
    mean_p, mean_q = p.mean(axes), q.mean(axes)
    spread_p, spread_q = p.var(axes), q.var(axes)
    together = (p * q).mean(axes) - mean_p * mean_q
    luminance, contrast = (0.01 * _SSIM_RANGE) ** 2, (0.03 * _SSIM_RANGE) ** 2
    above = (2 * mean_p * mean_q + luminance) * (2 * together + contrast)
    below = (mean_p**2 + mean_q**2 + luminance) * (spread_p + spread_q + contrast)
    return float((above / below).mean())


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
