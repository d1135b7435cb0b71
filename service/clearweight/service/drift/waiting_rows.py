"""Rows that wait to be compared: what has come while others were compared is taken in one batch, in its order."""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = Mapping[str, NDArray[Any]]
"""Input name to array (N, ...)."""


class WaitingRows:
    """The rows of one model that wait; safe from several threads.

    Parameters
    ----------
    most : rows of one batch; what comes in larger parts is taken as it came
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: deque[Rows] = deque()
        self._lock = threading.Lock()

    def add(self, part: Rows) -> None:
        """Let some rows wait."""
        with self._lock:
            self._parts.append(part)

    def withdraw(self, part: Rows) -> bool:
        """Take a part back; False says that it has been taken for comparison."""
        with self._lock:
            for place, waiting in enumerate(self._parts):
                if waiting is part:
                    del self._parts[place]
                    return True
        return False

    def take(self) -> Rows | None:
        """Return the oldest part and those behind it that fit into one batch with it, None where nothing waits."""
        with self._lock:
            if not self._parts:
                return None
            chosen = [self._parts.popleft()]
            kind, rows = _kind(chosen[0]), _count(chosen[0])
            while (
                self._parts and _kind(self._parts[0]) == kind and rows + _count(self._parts[0]) <= self._most
            ):
                rows += _count(self._parts[0])
                chosen.append(self._parts.popleft())
        if len(chosen) == 1:
            return chosen[0]
        return {name: np.concatenate([part[name] for part in chosen]) for name in chosen[0]}


def _count(part: Rows) -> int:
    return len(next(iter(part.values())))


def _kind(part: Rows) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, values.shape[1:]) for name, values in part.items()]
