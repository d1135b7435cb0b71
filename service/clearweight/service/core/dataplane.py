"""What both transports call: the engine behind bounded lanes, with drain and counts in one place."""

import time
from dataclasses import dataclass
from typing import Self

from clearweight.service.core.context import CURRENT
from clearweight.service.core.engine import VERBS, Engine
from clearweight.service.core.errors import UnavailableError
from clearweight.service.core.lane import Gone, Lane, LaneOptions
from clearweight.service.core.types import InferRequest, InferResponse

NAME = "clearweight"
EXTENSIONS = ("binary_tensor_data", "classification", "explain")
UNKNOWN = "unknown"
"""Label of requests that named no model of ours, so that callers cannot invent label values."""


_PREDICT = LaneOptions(workers=2, queue=64, queue_seconds=5.0)
_EXPLAIN = LaneOptions(workers=1, queue=16, queue_seconds=30.0)


@dataclass(frozen=True, slots=True)
class PlaneOptions:
    """The lane of each verb, and the deadline of requests that name none (0 for none)."""

    predict: LaneOptions = _PREDICT
    explain: LaneOptions = _EXPLAIN
    request_seconds: float = 60.0


class Call:
    """Label and clock of one request; a transport fills in ``code`` when it knows it.

    Attributes
    ----------
    deadline : of ``time.monotonic``, where the caller set one
    gone : returns when the caller has left, where the transport cannot cancel
    started : of ``time.monotonic``; a transport that knows when the request's head was read says so
    """

    __slots__ = ("_plane", "code", "deadline", "gone", "model", "protocol", "started", "verb", "version")

    def __init__(self, plane: "Dataplane", verb: str, protocol: str) -> None:
        self._plane, self.verb, self.protocol = plane, verb, protocol
        self.model, self.version, self.code = UNKNOWN, "", ""
        self.started = time.monotonic()
        self.deadline: float | None = None
        self.gone: Gone | None = None

    def __enter__(self) -> Self:
        self._plane.last_call[self.protocol] = self.started
        self._plane.in_progress[self.verb] += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._plane.in_progress[self.verb] -= 1
        self._plane.engine.observer.request(
            self.model, self.version, self.verb, self.protocol, self.code, time.monotonic() - self.started
        )


class Dataplane:
    """Asynchronous front of an engine, for one event loop.

    Attributes
    ----------
    leaving : not ready any more, so that nobody is sent here; what comes is still answered
    draining : everything new is refused
    refused : protocols of which everything new is refused
    last_call : time of the newest call by protocol
    """

    def __init__(self, engine: Engine, options: PlaneOptions | None = None) -> None:
        options = options or PlaneOptions()
        self.engine = engine
        self.extensions: tuple[str, ...] = EXTENSIONS  # and "model_repository" where that is offered
        self.leaving = False
        self.draining = False
        self.refused: set[str] = set()
        self.last_call = {"rest": 0.0, "grpc": 0.0}
        self.in_progress = dict.fromkeys(VERBS, 0)
        self._request_seconds = options.request_seconds
        self.lanes = {
            verb: Lane(verb, engine.run, lane, engine.observer)
            for verb, lane in (("predict", options.predict), ("explain", options.explain))
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

    def refuses(self, protocol: str) -> bool:
        """Whether everything new over this protocol is refused, because the service shuts down."""
        return self.draining or protocol in self.refused

    def call(self, verb: str, protocol: str) -> Call:
        """Return what counts and times one request, however it ends, as a context manager."""
        return Call(self, verb, protocol)

    def label(self, call: Call, model: str, version: str | None) -> None:
        """Give a request its labels, as soon as its model is known to exist.

        Raises
        ------
        NotFoundError
            No such model or version.
        QueueFullError
            Nothing more of this model can wait, so its body need not be read.
        """
        slot = self.engine.repository.slot(model, version)
        call.model, call.version = slot.name, slot.version
        context = CURRENT.get()
        if context is not None:
            context.model, context.version = slot.name, slot.version
        self.lanes[call.verb].admit(slot.name, call.started)

    async def answer(self, call: Call, request: InferRequest) -> InferResponse:
        """Answer one request on its lane.

        Raises
        ------
        ServiceError
            Anything the engine refuses, a full queue, a deadline, or a service that is draining.
        """
        if self.refuses(call.protocol):
            self.engine.observer.rejected("draining")
            raise UnavailableError("The service is shutting down and takes no new work.")
        job = self.engine.job(call.verb, request)
        deadline = call.deadline
        if self._request_seconds:
            latest = call.started + self._request_seconds
            deadline = latest if deadline is None else min(deadline, latest)
        answer = await self.lanes[call.verb].answer(job, deadline, call.gone, call.started)
        context = CURRENT.get()
        if context is not None:
            context.answered = time.monotonic()
        return answer

    def close(self) -> None:
        """Finish what runs, then stop every thread."""
        for lane in self.lanes.values():
            lane.close()
        self.engine.close()
