"""Which rows are compared: each with the same chance, drawn by the gaps between them."""

import threading

import numpy as np


class Draws:
    """Independent draws with one probability, at the cost of a subtraction for what is not drawn.

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
        self._pass = self._gap()

    def among(self, rows: int) -> list[int]:
        """Return the places drawn among the next ``rows`` rows, ascending."""
        with self._lock:
            place, drawn = self._pass, []
            while place < rows:
                drawn.append(place)
                place += 1 + self._gap()
            self._pass = place - rows
            return drawn

    def _gap(self) -> int:
        return int(self._rng.geometric(self._share)) - 1
