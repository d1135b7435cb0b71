"""Which rows are compared: each with the same chance, drawn by the gaps between them."""

import threading

import numpy as np


class Draws:
    """Independent draws with one probability, at the cost of a subtraction for what is let pass.

    The number of failures before a success is geometric, so one draw says how many rows to let pass. Safe from several
    threads.

    Parameters
    ----------
    share : above 0, at most 1
    seed : of the draws
    """

    def __init__(self, share: float, seed: int | None) -> None:
        self._share, self._rng = share, np.random.default_rng(seed)
        self._lock = threading.Lock()
        # Rows to let pass before the next draw: now, and when they were last counted.
        self._pass = self._told = self._gap()
        self._passed = 0

    def among(self, rows: int) -> list[int]:
        """Return the places drawn among the next ``rows`` rows, ascending."""
        with self._lock:
            if rows <= self._pass:
                self._pass -= rows
                return []
            place, drawn = self._pass, []
            while place < rows:
                drawn.append(place)
                place += 1 + self._gap()
            self._passed += self._told - self._pass + rows - len(drawn)
            self._pass = self._told = place - rows
            return drawn

    def passed(self) -> int:
        """Return how many rows were let pass since this was last asked."""
        with self._lock:
            passed = self._passed + self._told - self._pass
            self._passed, self._told = 0, self._pass
            return passed

    def _gap(self) -> int:
        return int(self._rng.geometric(self._share)) - 1
