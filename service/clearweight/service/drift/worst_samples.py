"""The live inputs on which compressed model and reference disagreed most: in memory only, and only when asked for."""

import heapq
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class WorstSample:
    """One kept row: its distance, its explained class, when it was compared, and the graph's inputs without batch."""

    score: float
    explained_class: int
    timestamp_seconds: float
    inputs: Mapping[str, NDArray[Any]]


class WorstSamples:
    """Keeps the ``capacity`` rows of the largest distance; a heap, so that most rows cost one comparison.

    They are inputs of users: nothing is written to disk, and whoever reads them must be allowed to.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._order = count()
        self._kept: list[tuple[float, int, WorstSample]] = []

    def add(
        self, scores: NDArray[np.float64], classes: Sequence[int], inputs: Mapping[str, NDArray[Any]]
    ) -> None:
        """Offer compared rows; undefined distances are not kept."""
        with self._lock:
            for row in np.flatnonzero(np.isfinite(scores)).tolist():
                score = float(scores[row])
                if len(self._kept) == self.capacity and score <= self._kept[0][0]:
                    continue
                own = {name: values[row].copy() for name, values in inputs.items()}
                entry = (score, next(self._order), WorstSample(score, int(classes[row]), time.time(), own))
                push = heapq.heappush if len(self._kept) < self.capacity else heapq.heapreplace
                push(self._kept, entry)

    def worst(self) -> list[WorstSample]:
        """Return what is kept, the largest distance first."""
        with self._lock:
            return [sample for *_, sample in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]
