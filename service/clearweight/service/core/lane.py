"""A verb's own way to the processor: bounded queues, one for each model, in front of a few threads.

ONNX Runtime releases the interpreter lock, so threads run beside the event loop. A change of threads costs more
than a small model's whole run, though: work that is estimated below ``inline_seconds`` runs where it stands as
long as nobody waits.

Requests that arrive while every thread is busy are joined: whoever runs next takes along, from the same model's queue,
all requests of its key that fit into one batch. Nobody waits for company unless ``max_delay`` says so, hence a lone
request is never slower than without batching.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from clearweight.service.core.context import CURRENT
from clearweight.service.core.crew import Crew, Run
from clearweight.service.core.errors import CallerGoneError, DeadlineExceededError, QueueFullError
from clearweight.service.core.job import Job
from clearweight.service.core.observer import Observer
from clearweight.service.core.ticket import Ticket
from clearweight.service.core.types import InferResponse

Gone: TypeAlias = Callable[[], Awaitable[object]]
"""Returns when the caller has left."""

_BEHIND = 0.01
"""Seconds that the event loop may be behind and still compute anything itself."""


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """Threads, waiting room and batching of one verb.

    Attributes
    ----------
    workers : runs at a time
    queue : requests of one model that may wait
    queue_seconds : longest wait for a thread
    max_batch : most rows of requests that share a run; 1 joins none
    max_delay : seconds to wait for company
    inline_seconds : work estimated below this runs in the event loop
    """

    workers: int = 1
    queue: int = 64
    queue_seconds: float = 10.0
    max_batch: int = 16
    max_delay: float = 0.0
    inline_seconds: float = 0.001


class Lane:
    """Threads and queues of one verb, used from one event loop.

    Parameters
    ----------
    verb : for metrics and messages
    run : callable
    options : LaneOptions
    observer : Observer
    """

    def __init__(self, verb: str, run: Run, options: LaneOptions, observer: Observer) -> None:
        self.verb, self.capacity = verb, options.queue
        self._options, self._observer = options, observer
        self.crew = Crew(
            verb,
            run,
            observer,
            workers=options.workers,
            max_batch=options.max_batch,
            max_delay=options.max_delay,
        )

    @property
    def depth(self) -> int:
        """Requests accepted and not yet running, of all models."""
        return self.crew.depth

    def admit(self, model: str, arrived: float) -> None:
        """Refuse at the head of a request what would be refused after its body.

        Parameters
        ----------
        arrived : of ``time.monotonic``, when the head was read: an event loop that is behind is a queue, too

        Raises
        ------
        QueueFullError
            As many requests of this model wait as may, or this one has waited as long as it may.
        """
        if time.monotonic() - arrived > self._options.queue_seconds:
            self._observer.rejected("queue_timeout")
            raise self._too_long(model)
        if self.crew.waiting(model) >= self.capacity + self.crew.free:
            raise self.refuse(model)

    @property
    def most_on_their_way(self) -> int:
        """Requests of one model that may be anywhere between their head and the end of their answer."""
        return 2 * self.capacity + self.crew.workers

    def crowded(self, model: str, entering: int) -> bool:
        """Whether one more request of this model would find no room, after so many that are about to come in.

        An idle lane is not: what it computes in the event loop never stands in its queue.
        """
        waiting = self.crew.waiting(model)
        return waiting > 0 and waiting + entering >= self.capacity + self.crew.free

    def refuse(self, model: str) -> QueueFullError:
        """Count and return the refusal of a request that would find no room."""
        self._observer.rejected("queue_full")
        return QueueFullError(
            f"The {self.verb} queue of {model!r} is full: {self.capacity} requests wait already.",
            retry_after=self.crew.time_to_clear(model),
        )

    def _too_long(self, model: str) -> QueueFullError:
        seconds = self._options.queue_seconds
        text = f"Nobody was free for this request for {seconds:.3g} s; nothing was computed."
        return QueueFullError(text, retry_after=self.crew.time_to_clear(model))

    async def answer(
        self,
        job: Job,
        deadline: float | None = None,
        gone: Gone | None = None,
        arrived: float | None = None,
    ) -> InferResponse:
        """Run a job and return its answer.

        Whatever of the following happens before the job has begun, it is not computed; once it runs, it is stopped
        unless others share the run.

        Parameters
        ----------
        deadline : of ``time.monotonic``; the caller has no use for an answer after it
        gone : returns when the caller has left; asked only while the job waits or runs in a thread
        arrived : of ``time.monotonic``, when the request's head was read; None is now

        Raises
        ------
        QueueFullError
            No room to wait in, or no thread within ``queue_seconds``.
        DeadlineExceededError, CallerGoneError
            The deadline passed, or the caller left.
        """
        options = self._options
        waited = 0.0 if arrived is None else time.monotonic() - arrived
        alone = self.crew.idle and not options.max_delay
        if alone and waited < _BEHIND and job.seconds <= options.inline_seconds:
            # Counted with those that waited, or a service at leisure would show the mean wait of its busy moments.
            self._observer.queued(self.verb, 0.0)
            began = time.monotonic()
            try:
                return self.crew.run([job], None)[0]
            finally:
                context = CURRENT.get()
                if context is not None:
                    context.note("run", began, time.monotonic())
        loop = asyncio.get_running_loop()
        ticket = Ticket(job, loop.create_future())
        if not self.crew.enter(ticket, self.capacity):
            raise self.refuse(job.slot.name)
        with ExitStack() as ends:
            ends.callback(loop.call_later(options.queue_seconds - waited, self._tire, ticket).cancel)
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                ends.callback(loop.call_later(left, self._expire, ticket).cancel)
            if gone is not None:
                watcher = asyncio.ensure_future(gone())
                watcher.add_done_callback(partial(self._lose, ticket))
                ends.callback(watcher.cancel)
            try:
                return await ticket.future
            except asyncio.CancelledError:
                self._give_up(ticket, "cancelled")
                raise

    def _tire(self, ticket: Ticket) -> None:
        if ticket.party is None and not self._give_up(ticket, "queue_timeout"):
            ticket.future.set_exception(self._too_long(ticket.job.slot.name))

    def _expire(self, ticket: Ticket) -> None:
        if not ticket.future.done():
            begun = self._give_up(ticket, "deadline")
            waited = time.monotonic() - ticket.entered
            text = f"The deadline passed after {waited:.3g} s, {'during' if begun else 'before'} the run."
            ticket.future.set_exception(DeadlineExceededError(text))

    def _lose(self, ticket: Ticket, watcher: asyncio.Future[object]) -> None:
        if not watcher.cancelled() and not ticket.future.done():
            self._give_up(ticket, "cancelled")
            ticket.future.set_exception(CallerGoneError("The caller closed the connection."))

    def _give_up(self, ticket: Ticket, reason: str) -> bool:
        """Take a ticket out of its queue, or out of its run; tells whether it had begun."""
        begun = self.crew.leave(ticket, running=reason != "queue_timeout")
        if not begun or reason != "queue_timeout":
            self._observer.rejected(reason)
        return begun

    def close(self) -> None:
        """Refuse what waits, finish what runs, and end the threads."""
        self.crew.close()
