"""Sliding windows that cover an input: where they lie, by default and when asked otherwise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IMAGE_WINDOW = 4
SIGNAL_WINDOW = 8
SMALL_SIDE = 64
_LARGE_SIDE_WINDOWS = 8  # windows side by side on an image larger than SMALL_SIDE


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows in the order of a grid, the last axis running fastest.

    Attributes
    ----------
    starts, ends : INT64 (W, axes): window w covers ``starts[w] <= place < ends[w]`` on every axis
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def cover(self, space: tuple[int, ...]) -> NDArray[np.int64]:
        """Count the windows over each place, of shape ``space``; at least one everywhere unless strides leave gaps."""
        counts = np.ones(space, np.int64)
        for axis, length in enumerate(space):
            # A grid's windows are all pairs of its intervals, so the count is a product of counts.
            own = np.unique(np.stack([self.starts[:, axis], self.ends[:, axis]], 1), axis=0)
            places = np.arange(length)
            along = ((places >= own[:, :1]) & (places < own[:, 1:])).sum(0)
            counts *= along.reshape([length if other == axis else 1 for other in range(len(space))])
        return counts


def default_window(space: tuple[int, ...]) -> int:
    """Return the window: 4 for images of up to 64 pixels, an eighth of the larger side beyond; 8 on one axis."""
    if len(space) == 1:
        return SIGNAL_WINDOW
    side = max(space)
    return IMAGE_WINDOW if side <= SMALL_SIDE else side // _LARGE_SIDE_WINDOWS


def sliding_windows(space: tuple[int, ...], size: int, stride: int) -> Windows:
    """Lay windows of ``size`` places at every ``stride`` along each axis; the last one of an axis ends at its edge.

    A window is never longer than its axis. Captum's ``Occlusion`` instead lets the last window hang over the edge.
    """
    grid = [_starts(length, min(size, length), stride) for length in space]
    starts = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, len(space)).astype(np.int64)
    return Windows(starts, starts + np.minimum(size, np.array(space, np.int64)))


def _starts(length: int, size: int, stride: int) -> list[int]:
    found = list(range(0, length - size + 1, stride))
    return found if found[-1] + size >= length else [*found, length - size]
