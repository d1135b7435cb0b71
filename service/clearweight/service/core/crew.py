"""The threads of a lane: they take what may share a run from the waiting room, run it, and hand the answers back.

Everything that threads and event loop share is behind one lock here.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from clearweight.service.core.errors import UnavailableError
from clearweight.service.core.job import Job
from clearweight.service.core.observer import Observer
from clearweight.service.core.session import Halt
from clearweight.service.core.ticket import Party, Ticket
from clearweight.service.core.types import InferResponse
from clearweight.service.core.waiting_room import WaitingRoom

Run: TypeAlias = Callable[[Sequence[Job], Halt | None], list[InferResponse]]
"""Answer jobs of one key in one run."""

_SMOOTHING = 0.1
_CLOSED = "The service is shutting down and takes no new work."


class Crew:
    """Threads in front of a waiting room.

    Parameters
    ----------
    verb : for metrics, and the threads' names
    run : callable
    workers : threads
    max_batch : most rows of requests that share a run
    max_delay : seconds to wait for company
    """

    def __init__(
        self, verb: str, run: Run, observer: Observer, *, workers: int, max_batch: int, max_delay: float
    ) -> None:
        self.run, self.workers = run, workers
        self._verb, self._observer, self._max_delay = verb, observer, max_delay
        self._wake = threading.Condition()
        self._room = WaitingRoom(max_batch)
        self._busy, self._closing = 0, False
        self._seconds = 0.0  # of one request on a thread, smoothed
        self._threads = [
            threading.Thread(target=self._work, name=f"clearweight-{verb}-{index}", daemon=True)
            for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    # -- in the event loop ----------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._room and not self._busy

    @property
    def free(self) -> int:
        """Threads that run nothing."""
        return self.workers - self._busy

    @property
    def depth(self) -> int:
        """Tickets that no free thread is about to take, of all models."""
        with self._wake:
            return max(0, len(self._room) - self.free)

    def waiting(self, model: str) -> int:
        """Count the tickets of one model that wait."""
        return self._room.waiting(model)

    def time_to_clear(self, model: str) -> float:
        """Estimate how long what waits now will take, at the measured rate."""
        return self._room.waiting(model) * self._seconds / self.workers

    def enter(self, ticket: Ticket, capacity: int) -> bool:
        """Let a ticket wait, where no more than ``capacity`` of its model do beside those that free threads will take.

        Raises
        ------
        UnavailableError
            The crew has been closed.
        """
        with self._wake:
            if self._closing:
                raise UnavailableError(_CLOSED)
            if self._room.waiting(ticket.job.slot.name) >= capacity + self.free:
                return False
            self._room.enter(ticket)
            self._wake.notify()
            return True

    def leave(self, ticket: Ticket, *, running: bool) -> bool:
        """Take a ticket out of its queue, or if ``running`` out of its run; tells whether it had begun."""
        with self._wake:
            party = ticket.party
            if party is None:
                self._room.leave(ticket)
            elif running:
                party.lose()
        return party is not None

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

    # -- in the threads -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (party := self._take()) is not None:
            started = time.monotonic()
            for ticket in party.tickets:
                self._observer.queued(self._verb, started - ticket.entered)
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
            return self.run(jobs, party.halt)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to whoever waits
            if len(jobs) == 1 or party.halt.called:
                return [error] * len(jobs)
        # One of them spoils the run for all: alone, it spoils its own.
        found: list[InferResponse | BaseException] = []
        for job in jobs:
            try:
                found += self.run([job], party.halt)
            except BaseException as error:  # noqa: BLE001  # as above
                found.append(error)
        return found

    def _take(self) -> Party | None:
        """Wait for work; returns the tickets of the next run, None when the crew is closed."""
        with self._wake:
            while True:
                if self._closing:
                    return None
                if not self._room:
                    self._wake.wait()
                    continue
                tickets, full = self._room.next()
                patience = tickets[0].entered + self._max_delay - time.monotonic()
                if full or patience <= 0.0:
                    break
                self._wake.wait(patience)
            self._room.take(tickets)
            self._busy += 1
            return Party(tickets)
