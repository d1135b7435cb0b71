"""A verb's own way to the processor: bounded queues, one for each model, in front of a few threads.

ONNX Runtime releases the interpreter lock, so threads run beside the event loop. A change of threads costs more
than a small model's whole run, though: work that is estimated below ``inline_seconds`` runs where it stands as
long as nobody waits.

Requests that arrive while every thread is busy are joined: whoever runs next takes along, from the same model's queue,
all requests of its key that fit into one batch. Nobody waits for company unless ``max_delay`` says so, hence a lone
request is never slower than without batching.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from clearweight.service.core.context import CURRENT
from clearweight.service.core.errors import (
    CallerGoneError,
    DeadlineExceededError,
    QueueFullError,
    UnavailableError,
)
from clearweight.service.core.job import Job
from clearweight.service.core.observer import Observer
from clearweight.service.core.session import Halt
from clearweight.service.core.ticket import Party, Ticket
from clearweight.service.core.types import InferResponse
from clearweight.service.core.waiting_room import WaitingRoom

Run: TypeAlias = Callable[[Sequence[Job], Halt | None], list[InferResponse]]
"""Answer jobs of one key in one run."""

Gone: TypeAlias = Callable[[], Awaitable[object]]
"""Returns when the caller has left."""

_SMOOTHING = 0.1
_BEHIND = 0.01
"""Seconds that the event loop may be behind and still compute anything itself."""
_CLOSED = "The service is shutting down and takes no new work."


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
        self._run, self._options, self._observer = run, options, observer
        self._wake = threading.Condition()
        self._room = WaitingRoom(options.max_batch)
        self._busy, self._closing = 0, False
        self._seconds = 0.0  # of one request on a thread, smoothed
        self._threads = [
            threading.Thread(target=self._work, name=f"clearweight-{verb}-{index}", daemon=True)
            for index in range(options.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Requests accepted and not yet running, of all models."""
        with self._wake:
            return max(0, len(self._room) - self._free)

    @property
    def _free(self) -> int:
        return len(self._threads) - self._busy

    # -- in the event loop ----------------------------------------------------------------------------------------

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
        if self._room:
            with self._wake:
                self._check_room(model)

    @property
    def most_on_their_way(self) -> int:
        """Requests of one model that may be anywhere between their head and the end of their answer."""
        return 2 * self.capacity + len(self._threads)

    def crowded(self, model: str, entering: int) -> bool:
        """Whether one more request of this model would find no room, after so many that are about to come in.

        An idle lane is not: what it computes in the event loop never stands in its queue.
        """
        waiting = self._room.waiting(model)
        return waiting > 0 and waiting + entering >= self.capacity + self._free

    def refuse(self, model: str) -> QueueFullError:
        """Count and return the refusal of a request that would find no room."""
        self._observer.rejected("queue_full")
        return QueueFullError(
            f"The {self.verb} queue of {model!r} is full: {self.capacity} requests wait already.",
            retry_after=self._time_to_clear(model),
        )

    def _too_long(self, model: str) -> QueueFullError:
        seconds = self._options.queue_seconds
        text = f"Nobody was free for this request for {seconds:.3g} s; nothing was computed."
        return QueueFullError(text, retry_after=self._time_to_clear(model))

    def _check_room(self, model: str) -> None:
        if self._room.waiting(model) >= self.capacity + self._free:
            raise self.refuse(model)

    def _time_to_clear(self, model: str) -> float:
        """Estimate how long what waits now will take, at the measured rate."""
        return self._room.waiting(model) * self._seconds / len(self._threads)

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
        alone = not self._room and not self._busy and not options.max_delay
        if alone and waited < _BEHIND and job.seconds <= options.inline_seconds:
            began = time.monotonic()
            try:
                return self._run([job], None)[0]
            finally:
                context = CURRENT.get()
                if context is not None:
                    context.note("run", began, time.monotonic())
        loop = asyncio.get_running_loop()
        ticket = Ticket(job, loop.create_future())
        self._enter(ticket)
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

    def _enter(self, ticket: Ticket) -> None:
        model = ticket.job.slot.name
        with self._wake:
            if self._closing:
                raise UnavailableError(_CLOSED)
            self._check_room(model)
            self._room.enter(ticket)
            self._wake.notify()

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
        with self._wake:
            party = ticket.party
            if party is None:
                self._room.leave(ticket)
            elif reason != "queue_timeout":
                party.lose()
        if party is None or reason != "queue_timeout":
            self._observer.rejected(reason)
        return party is not None

    # -- in the threads -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (party := self._take()) is not None:
            started = time.monotonic()
            for ticket in party.tickets:
                self._observer.queued(self.verb, started - ticket.entered)
                ticket.note("queue", ticket.entered, started)
            found = self._answers(party)
            ended = time.monotonic()
            for ticket in party.tickets:
                ticket.note("run", started, ended)
            loop = party.tickets[0].future.get_loop()
            with self._wake:
                self._busy -= 1
                each = (ended - started) / len(party.tickets)
                self._seconds += (_SMOOTHING if self._seconds else 1.0) * (each - self._seconds)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(party.deliver, found)
            del party, found, ticket  # an idle thread keeps no model

    def _answers(self, party: Party) -> Sequence[InferResponse | BaseException]:
        jobs = [ticket.job for ticket in party.tickets]
        try:
            return self._run(jobs, party.halt)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to whoever waits
            if len(jobs) == 1 or party.halt.called:
                return [error] * len(jobs)
        # One of them spoils the run for all: alone, it spoils its own.
        found: list[InferResponse | BaseException] = []
        for job in jobs:
            try:
                found += self._run([job], party.halt)
            except BaseException as error:  # noqa: BLE001  # as above
                found.append(error)
        return found

    def _take(self) -> Party | None:
        """Wait for work; returns the tickets of the next run, None when the lane is closed."""
        with self._wake:
            while True:
                if self._closing:
                    return None
                if not self._room:
                    self._wake.wait()
                    continue
                tickets, full = self._room.next()
                patience = tickets[0].entered + self._options.max_delay - time.monotonic()
                if full or patience <= 0.0:
                    break
                self._wake.wait(patience)
            self._room.take(tickets)
            self._busy += 1
            return Party(tickets)

    def close(self) -> None:
        """Refuse what waits, finish what runs, and end the threads."""
        with self._wake:
            self._closing = True
            left = self._room.empty()
            self._wake.notify_all()
        for ticket in left:
            with suppress(RuntimeError):
                ticket.future.get_loop().call_soon_threadsafe(ticket.deliver, UnavailableError(_CLOSED))
        for thread in self._threads:
            thread.join()
