"""Where stored values are to be expected, from where they were (SPEC.md section 2.8).

A mask is read as a matrix in rows of a stated length. Dead inputs and idle neurons make whole columns and rows of it
sparse, so an element's *activity* is the share of ones in its column so far times that in its row so far, each
against the share in all. Both sides compute it from elements they already have, in the same double arithmetic.
"""

import numpy as np
from numpy.typing import NDArray

# Activities are compared with these, times the square of the overall share: half octaves, exact in binary.
EDGES = np.array([base * 2.0**power for power in range(-5, 4) for base in (1.0, 1.5)])
BUCKETS = EDGES.size + 1
CONTEXTS = 2 * BUCKETS


class MaskActivity:
    """Contexts of a mask's elements, ``lanes`` of them at a time.

    Parameters
    ----------
    size : elements of the mask
    row : elements of a row
    lanes : elements of a step
    """

    def __init__(self, size: int, row: int, lanes: int) -> None:
        self._row = row
        self._lanes = lanes
        self._size = size
        self._seen = 0
        self._ones = 0
        self._column = np.zeros(row, dtype=np.int64)
        self._line = np.zeros(size // row, dtype=np.int64)
        self._above = np.zeros(row, dtype=np.int64)
        self._bucket = np.zeros(0, dtype=np.uint8)
        self._busy: list[NDArray[np.uint8]] = []

    def contexts(self) -> NDArray[np.int64]:
        """Return the context of every element of the next step: its bucket, doubled, plus the element above."""
        place = np.arange(self._seen, min(self._seen + self._lanes, self._size))
        self._at_line, self._at_column = np.divmod(place, self._row)
        share = (self._ones + 1.0) / (self._seen + 2.0)
        above = (self._seen - 1 - self._at_column) // self._row + 1  # elements of the column before this step
        beside = np.maximum(self._seen - self._at_line * self._row, 0)
        column = (self._column[self._at_column] + 2.0 * share) / (above + 2.0)
        line = (self._line[self._at_line] + 4.0 * share) / (beside + 4.0)
        bucket = np.searchsorted(EDGES * (share * share), column * line, side="right")
        self._bucket = bucket.astype(np.uint8)
        context: NDArray[np.int64] = 2 * bucket + self._above[self._at_column]
        return context

    def learn(self, bit: NDArray[np.bool_]) -> None:
        """Take in the elements of the step."""
        np.add.at(self._column, self._at_column, bit)
        np.add.at(self._line, self._at_line, bit)
        self._above[self._at_column] = bit
        self._busy.append(self._bucket[bit])
        self._ones += self._busy[-1].size
        self._seen += bit.size

    def buckets(self) -> NDArray[np.uint8]:
        """Return the bucket of every one so far, in order: how active its place was."""
        return np.concatenate([np.zeros(0, dtype=np.uint8), *self._busy])
