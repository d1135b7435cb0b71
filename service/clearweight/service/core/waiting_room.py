"""Who waits for a thread: a queue for each model, models taking turns, and who shares the next run.

Nothing here knows of threads or clocks; a lane holds its lock round every call.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress

from clearweight.service.core.ticket import Ticket


class WaitingRoom:
    """Tickets in the order they came, by model.

    Parameters
    ----------
    most_rows : rows of requests that may share a run
    """

    def __init__(self, most_rows: int) -> None:
        self._most = most_rows
        self._queues: OrderedDict[str, deque[Ticket]] = (
            OrderedDict()
        )  # the model whose turn it is comes first

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def __bool__(self) -> bool:
        return bool(self._queues)

    def waiting(self, model: str) -> int:
        """Count the tickets of one model."""
        queue = self._queues.get(model)
        return 0 if queue is None else len(queue)

    def enter(self, ticket: Ticket) -> None:
        """Take a ticket in, behind those of its model."""
        self._queues.setdefault(ticket.job.slot.name, deque()).append(ticket)

    def next(self) -> tuple[list[Ticket], bool]:
        """Choose the oldest ticket of the model whose turn it is, and those of its key that fit beside it.

        Returns
        -------
        tickets : the oldest first; somebody must be waiting
        full : whether no more would fit
        """
        queue = next(iter(self._queues.values()))
        first = queue[0].job
        rows, most = 0, min(self._most, first.most_rows)
        chosen: list[Ticket] = []
        for ticket in queue:
            job = ticket.job
            if not chosen or (job.key == first.key and rows + job.rows <= most):
                chosen.append(ticket)
                rows += job.rows
            if rows >= most:
                break
        return chosen, rows >= most

    def take(self, tickets: Sequence[Ticket]) -> None:
        """Let the tickets that ``next`` chose out; then another model has its turn."""
        model = tickets[0].job.slot.name
        for ticket in tickets:
            self.leave(ticket)
        if model in self._queues:
            self._queues.move_to_end(model)

    def leave(self, ticket: Ticket) -> None:
        """Let one ticket out, if it is here."""
        model = ticket.job.slot.name
        queue = self._queues.get(model)
        if queue is None:
            return
        with suppress(ValueError):
            queue.remove(ticket)
        if not queue:
            del self._queues[model]

    def empty(self) -> list[Ticket]:
        """Let everyone out."""
        left = [ticket for queue in self._queues.values() for ticket in queue]
        self._queues.clear()
        return left
