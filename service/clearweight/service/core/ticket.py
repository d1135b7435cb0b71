"""One job on its way to an answer, and the run that it shares."""

import asyncio
import time
from collections.abc import Sequence

from clearweight.service.core.context import CURRENT
from clearweight.service.core.job import Job
from clearweight.service.core.session import Halt
from clearweight.service.core.types import InferResponse


class Ticket:
    """One job, and who waits for it.

    Attributes
    ----------
    entered : of ``time.monotonic``
    party : the run that it belongs to, once there is one
    context : of the request, for logs and traces
    """

    __slots__ = ("context", "entered", "future", "job", "party")

    def __init__(self, job: Job, future: asyncio.Future[InferResponse]) -> None:
        self.job, self.future, self.entered = job, future, time.monotonic()
        self.party: Party | None = None
        self.context = CURRENT.get()

    def note(self, stage: str, began: float, ended: float) -> None:
        """Note a stage of the request, in seconds of ``time.monotonic``."""
        if self.context is not None:
            self.context.note(stage, began, ended)

    def deliver(self, answer: InferResponse | BaseException) -> None:
        """Give whoever waits the answer, unless it has given up; in the event loop."""
        if self.future.done():
            return
        if isinstance(answer, BaseException):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Party:
    """The tickets of one run; when the last of them is given up, so is the run."""

    __slots__ = ("_waiting", "halt", "tickets")

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self.tickets, self.halt, self._waiting = tickets, Halt(), len(tickets)
        for ticket in tickets:
            ticket.party = self

    def lose(self) -> None:
        """Lose one of those who wait."""
        self._waiting -= 1
        if self._waiting == 0:
            self.halt()

    def deliver(self, answers: Sequence[InferResponse | BaseException]) -> None:
        """Give every ticket its answer; in the event loop."""
        for ticket, answer in zip(self.tickets, answers, strict=True):
            ticket.deliver(answer)
