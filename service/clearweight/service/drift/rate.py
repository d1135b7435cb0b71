"""How many comparisons there are per day, from those there were."""

import math
from collections.abc import Callable

DAY = 86400.0
_MEMORY = DAY
_PRIOR = 60.0
"""Seconds at one comparison each that are assumed before anything was seen."""


class RateMeter:
    """Exponentially forgetting average over about a day: nights and rushes even out, a lasting change shows.

    Parameters
    ----------
    clock : callable
        Seconds, never backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._then = clock, clock()
        self.count, self.seconds = _PRIOR, _PRIOR

    def add(self, comparisons: int) -> None:
        """Count comparisons that end now."""
        self._forget()
        self.count += comparisons

    @property
    def per_second(self) -> float:
        """Comparisons per second."""
        self._forget()
        return self.count / self.seconds

    def _forget(self) -> None:
        now = self._clock()
        passed, self._then = now - self._then, now
        kept = math.exp(-passed / _MEMORY)
        self.count *= kept
        self.seconds = self.seconds * kept + _MEMORY * (1.0 - kept)
