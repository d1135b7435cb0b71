"""Histograms that cost a request no more than keeping a number: they are counted when read, or when many have come.

An observation through prometheus_client takes two locks and a walk over the buckets, several times a request; here it
is one append, which needs no lock.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

MANY = 1024
"""Observations that are kept before they are counted, a fraction of a millisecond's work."""


class Tally:
    """How many observations fell into each bucket, and their sum.

    Parameters
    ----------
    bounds : ascending; a bucket holds what is at most its bound and above the one before

    Attributes
    ----------
    new : observations not counted yet; who appends to it itself, for a call less, reads when there are ``MANY``
    """

    __slots__ = ("_bounds", "_counting", "_counts", "_sum", "new")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self.new: deque[float] = deque()
        self._counting = threading.Lock()
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Take one observation; safe from several threads."""
        self.new.append(value)
        if len(self.new) >= MANY:
            self.read()

    def read(self) -> tuple[list[int], float]:
        """Count what is new; return observations at or below each bound, the last of all, and their sum."""
        with self._counting:
            values = [self.new.popleft() for _ in range(len(self.new))]
            buckets = np.searchsorted(self._bounds, values)
            self._counts += np.bincount(buckets, minlength=len(self._counts))
            self._sum += float(np.sum(values))
            return np.cumsum(self._counts).tolist(), self._sum


class Tallies(Collector):
    """One histogram of all its label values.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        None leaves it to be read by its owner.

    Attributes
    ----------
    known : tally by label values
    """

    def __init__(
        self,
        name: str,
        text: str,
        bounds: Sequence[float],
        labels: Sequence[str],
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, tuple(bounds), tuple(labels)
        self.known: dict[tuple[str, ...], Tally] = {}
        if registry is not None:
            registry.register(self)

    def of(self, *values: str) -> Tally:
        """Return the tally of these label values."""
        found = self.known.get(values)
        return found or self.known.setdefault(values, Tally(self._bounds))

    def read(self) -> Mapping[tuple[str, ...], tuple[list[int], float]]:
        """Return what each tally holds, by its label values."""
        return {values: tally.read() for values, tally in list(self.known.items())}

    def collect(self) -> Iterator[Metric]:
        """Give the histogram as Prometheus reads it."""
        yield histogram(self._name, self._text, self._bounds, self._labels, self.read())


def histogram(
    name: str,
    text: str,
    bounds: Sequence[float],
    labels: Sequence[str],
    found: Mapping[tuple[str, ...], tuple[list[int], float]],
) -> Metric:
    """Write counts up to each bound, and sums, by label values."""
    family = HistogramMetricFamily(name, text, labels=labels)
    edges = [floatToGoString(bound) for bound in (*bounds, float("inf"))]  # type: ignore[no-untyped-call]
    for values, (counts, total) in found.items():
        family.add_metric(values, list(zip(edges, counts, strict=True)), total)
    return family
