"""Question three's measurement: the same inputs through the uncompressed reference, in the background.

A bounded queue and one thread with a bounded share of a core. Work that finds the queue full is dropped and
counted; nothing here ever makes a request wait.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import SCORES
from clearweight.service.drift.pace import CURRENT, Account, Pace

_LOG = logging.getLogger("clearweight.service")

Explain = Callable[[Mapping[str, NDArray[Any]], NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any]]]
"""(inputs, target [N], -1 = arg-max) -> (maps [N, ...], logits [N, C])."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Paired scores of some rows: distances per metric, NaN where a map is undefined; disagreeing predictions.

    ``classes`` are the explained ones, the reference's predictions; None where nobody asked.
    """

    scores: Mapping[str, NDArray[np.float64]]
    disagreement: NDArray[np.bool_]
    classes: NDArray[np.int64] | None = None


def compare(reference: Explain, compressed: Explain, inputs: Mapping[str, NDArray[Any]]) -> Comparison:
    """Explain the reference's class in both models and score the maps against each other."""
    rows = len(next(iter(inputs.values())))
    expected, logits = reference(inputs, np.full(rows, -1, dtype=np.int64))
    target = logits.argmax(axis=1).astype(np.int64)
    found, answers = compressed(inputs, target)
    scores = {name: np.asarray(score(expected, found), dtype=np.float64) for name, score in SCORES.items()}
    return Comparison(scores, answers.argmax(axis=1) != target, target)


class ShadowWorker:
    """Runs jobs one after another in a daemon thread, which keeps to an account of processor time."""

    def __init__(self, capacity: int, account: Account, name: str = "shadow") -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._pace = Pace(account, self._closing.wait)
        self._thread = threading.Thread(target=self._work, name=f"clearweight-{name}", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether a job that came now would be dropped."""
        return self._jobs.full()

    def offer(self, job: Callable[[], None]) -> bool:
        """Queue a job if there is room; False says it was dropped."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def drain(self) -> None:
        """Wait until everything queued so far has run."""
        self._jobs.join()

    def close(self, seconds: float | None = None) -> None:
        """Stop after the running job, waiting so long for it at most; queued ones are forgotten."""
        self._closing.set()
        with suppress(queue.Full):  # then the thread is busy and sees the event at its next job
            self._jobs.put_nowait(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        CURRENT.set(self._pace)
        while not self._closing.is_set():
            job = self._jobs.get()
            self._pace.begin()
            try:
                if job is not None:
                    job()
            except Exception:  # noqa: BLE001  # whatever a comparison raises, the next one still runs
                _LOG.exception("A job of the %s thread failed.", self._thread.name)
            finally:
                job = None  # an unloaded model is not kept by its last comparison
                self._jobs.task_done()
            self._pace.rest()
