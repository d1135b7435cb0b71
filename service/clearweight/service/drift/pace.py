"""A share of one core that background threads keep to together, resting in the middle of long work."""

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

_PIECE = 0.002
"""Seconds of work that are booked at a time; less is not worth a rest of its own."""
_MOST = 2.0
"""Times the processor time that is booked at most."""


class Account:
    """What several threads may take of one core together.

    What is booked is time from begin to end of some work, up to twice the processor time that it took: a thread that
    has to wait for the core or for the interpreter is in somebody's way and rests the longer, but not for the hours
    that a machine slept.

    Parameters
    ----------
    share : above 0, at most 1
    """

    def __init__(self, share: float) -> None:
        self._rest_per_second = (1.0 - share) / share
        self._lock = threading.Lock()
        self._even = time.perf_counter()

    def book(self, seconds: float) -> float:
        """Book work that ends now; returns for how long nobody may work."""
        with self._lock:
            now = time.perf_counter()
            self._even = max(self._even, now) + seconds * self._rest_per_second
            return self._even - now


class Pace:
    """One thread's way of keeping to an account.

    Parameters
    ----------
    wait : rests so many seconds, or less where the thread is to end
    """

    def __init__(self, account: Account, wait: Callable[[float], object]) -> None:
        self._account, self._wait = account, wait
        self._worked = 0.0

    def begin(self) -> None:
        """Begin to work, in the thread that does."""
        self._wall, self._own = time.perf_counter(), time.thread_time()

    def rest(self) -> None:
        """Rest for what was worked since the last rest, once that is worth it."""
        wall, own = time.perf_counter(), time.thread_time()
        self._worked += min(wall - self._wall, _MOST * (own - self._own))
        if self._worked >= _PIECE:
            self._wait(self._account.book(self._worked))
            self._worked, wall = 0.0, time.perf_counter()
        self._wall, self._own = wall, own


CURRENT: ContextVar[Pace | None] = ContextVar("clearweight_pace", default=None)
"""The pace of this thread; None may work as fast as it can."""


def breathe() -> None:
    """Rest if this thread has to; called between small pieces of long work."""
    pace = CURRENT.get()
    if pace is not None:
        pace.rest()
