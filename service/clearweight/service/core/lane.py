"""A verb's own way to the processor: a bounded queue in front of a few threads, and a shortcut for small work.

ONNX Runtime releases the interpreter lock, so threads run beside the event loop. A change of threads costs more
than a small model's whole run, though: work that is estimated below ``inline_seconds`` runs where it stands as
long as nobody waits.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clearweight.service.core.errors import QueueFullError
from clearweight.service.core.observer import Observer

R = TypeVar("R")


class Lane:
    """At most ``workers`` runs at a time and ``capacity`` waiting; one more is refused at once.

    Used from one event loop; ``depth`` and ``capacity`` are for metrics.
    """

    def __init__(
        self, verb: str, *, workers: int, capacity: int, inline_seconds: float, observer: Observer
    ) -> None:
        self.verb, self.capacity = verb, capacity
        self._workers, self._inline_seconds, self._observer = workers, inline_seconds, observer
        self._pending = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=f"clearweight-{verb}")

    @property
    def depth(self) -> int:
        """Work accepted and not yet running."""
        return max(0, self._pending - self._workers)

    async def run(self, seconds: float, work: Callable[[], R]) -> R:
        """Run ``work``, estimated to take ``seconds``, and return its result.

        Raises
        ------
        QueueFullError
            ``capacity`` pieces of work wait already.
        """
        if self._pending == 0 and seconds <= self._inline_seconds:
            return work()
        if self._pending >= self._workers + self.capacity:
            self._observer.rejected("queue_full")
            raise QueueFullError(f"The {self.verb} queue is full: {self.capacity} requests wait already.")
        loop = asyncio.get_running_loop()
        self._pending += 1
        future: Future[R] = self._pool.submit(self._timed, time.perf_counter(), work)
        # Counted until the thread is really done with it, even if the caller has gone.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _timed(self, submitted: float, work: Callable[[], R]) -> R:
        self._observer.queued(self.verb, time.perf_counter() - submitted)
        return work()

    def _done(self) -> None:
        self._pending -= 1

    def close(self) -> None:
        """Wait for what runs and stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
