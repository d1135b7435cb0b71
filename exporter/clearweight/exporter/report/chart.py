"""Geometry of the two charts; the template draws it, so that colours follow the reader's light or dark mode."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.manifest import Ledger
from clearweight.exporter.errors import DataError

BINS = 40


@dataclass(frozen=True)
class Bar:
    """One bar: its share of the longest, and what is written beside it."""

    name: str
    bytes: int
    share: float
    bits_per_weight: float
    ratio: float | None


def stage_bars(ledger: Ledger) -> list[Bar]:
    """Add up the bytes of all tensors after each stage; the last bar is the file with its overhead.

    Raises
    ------
    DataError
        The tensors do not share one list of stages.
    """
    names = [stage.name for stage in ledger.rows[0].stages] if ledger.rows else []
    for row in ledger.rows:
        if [stage.name for stage in row.stages] != names:
            raise DataError(
                f"Tensor {row.name!r} has stages {[stage.name for stage in row.stages]}, expected {names}."
            )
    sizes = [(name, sum(row.stages[index].bytes for row in ledger.rows)) for index, name in enumerate(names)]
    sizes.append(("file, with headers", ledger.packed_bytes))
    parameters = sum(row.parameters for row in ledger.rows)
    longest = max(size for _, size in sizes)
    return [
        Bar(
            name=name,
            bytes=size,
            share=size / longest if longest else 0.0,
            bits_per_weight=8 * size / parameters if parameters else 0.0,
            ratio=ledger.reference_bytes / size if size else None,
        )
        for name, size in sizes
    ]


@dataclass(frozen=True)
class Histogram:
    """Columns in a 0..1 square: left edge, width and height; and marks at quantiles."""

    columns: tuple[tuple[float, float, float, int], ...]
    low: float
    high: float
    marks: tuple[tuple[str, float, float], ...]
    samples: int
    undefined: int


def histogram(scores: NDArray[Any]) -> Histogram | None:
    """Count scores in 40 equal bins from zero (or the least score) to the largest; None without any score.

    Each column is (left, width, height, count), each mark (name, position, score).
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    kept = values[~np.isnan(values)]
    if kept.size == 0:
        return None
    low = min(0.0, float(kept.min()))
    high = float(kept.max())
    if high <= low:
        high = low + 1.0
    counts, _ = np.histogram(kept, bins=BINS, range=(low, high))
    tallest = int(counts.max())
    columns = tuple(
        (index / BINS, 1 / BINS, int(count) / tallest, int(count)) for index, count in enumerate(counts)
    )
    quantiles = (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
    marks = tuple(
        (name, (float(np.quantile(kept, at)) - low) / (high - low), float(np.quantile(kept, at)))
        for name, at in quantiles
    )
    return Histogram(columns, low, high, marks, int(kept.size), int(values.size - kept.size))
