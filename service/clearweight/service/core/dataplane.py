"""What both transports call: the engine behind bounded lanes, with drain and counts in one place."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from clearweight.service.core.engine import VERBS, Engine
from clearweight.service.core.errors import UnavailableError
from clearweight.service.core.lane import Lane
from clearweight.service.core.types import InferRequest, InferResponse

NAME = "clearweight"
EXTENSIONS = ("binary_tensor_data", "explain")
UNKNOWN = "unknown"
"""Label of requests that named no model of ours, so that callers cannot invent label values."""


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """Threads and waiting room per verb, and how small work must be to skip both."""

    predict_workers: int = 2
    predict_queue: int = 64
    explain_workers: int = 1
    explain_queue: int = 16
    inline_seconds: float = 0.001


class Call:
    """Label and clock of one request; a transport fills in ``code`` when it knows it."""

    __slots__ = ("code", "model", "started", "verb", "version")

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.model, self.version, self.code = UNKNOWN, "", ""
        self.started = time.perf_counter()


class Dataplane:
    """Asynchronous front of an engine, for one event loop."""

    def __init__(self, engine: Engine, options: LaneOptions | None = None) -> None:
        options = options or LaneOptions()
        self.engine = engine
        self.extensions = EXTENSIONS  # and "model_repository" where that is offered
        self.leaving = False
        self.draining = False
        self.in_progress = dict.fromkeys(VERBS, 0)
        rooms = {
            "predict": (options.predict_workers, options.predict_queue),
            "explain": (options.explain_workers, options.explain_queue),
        }
        self.lanes = {
            verb: Lane(
                verb,
                workers=workers,
                capacity=capacity,
                inline_seconds=options.inline_seconds,
                observer=engine.observer,
            )
            for verb, (workers, capacity) in rooms.items()
        }
        self._work: dict[str, Callable[[InferRequest], InferResponse]] = {
            "predict": engine.infer,
            "explain": engine.infer_explain,
        }

    @property
    def ready(self) -> bool:
        """Whether new work is welcome and every model serves.

        A service that is ``leaving`` asks to be sent nothing more but still answers; one that is ``draining``
        refuses.
        """
        return self.staying and self.engine.ready

    @property
    def staying(self) -> bool:
        """Whether the service is neither leaving nor draining."""
        return not (self.leaving or self.draining)

    @contextmanager
    def call(self, verb: str, protocol: str) -> Iterator[Call]:
        """Count and time one request, however it ends."""
        call = Call(verb)
        self.in_progress[verb] += 1
        try:
            yield call
        finally:
            self.in_progress[verb] -= 1
            self.engine.observer.request(
                call.model, call.version, verb, protocol, call.code, time.perf_counter() - call.started
            )

    def label(self, call: Call, model: str, version: str | None) -> None:
        """Give a request its labels, as soon as its model is known to exist.

        Raises
        ------
        NotFoundError
            No such model or version.
        """
        slot = self.engine.repository.slot(model, version)
        call.model, call.version = slot.name, slot.version

    async def answer(self, call: Call, request: InferRequest) -> InferResponse:
        """Answer one request on its lane.

        Raises
        ------
        ServiceError
            Anything the engine refuses, a full queue, or a service that is draining.
        """
        if self.draining:
            self.engine.observer.rejected("draining")
            raise UnavailableError("The service is shutting down and takes no new work.")
        work = self._work[call.verb]
        return await self.lanes[call.verb].run(self.engine.cost(call.verb, request), lambda: work(request))

    def close(self) -> None:
        """Finish what runs, then stop every thread."""
        for lane in self.lanes.values():
            lane.close()
        self.engine.close()
