"""One request as logs and traces know it: its identity, its route, its stages; empty outside of a request.

Source of ``traceparent``: W3C Trace Context, level 1, section 3.2.
"""

import os
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Self

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_MOST_STAGES = 64
_NOBODY = {"0" * 32, "0" * 16}


def _known(parent: re.Match[str]) -> bool:
    """Whether a field of the right form is valid: version 00 has four parts, ff is forbidden, no id is zero."""
    extended = parent[1] == "00" and parent[5]
    return parent[1] != "ff" and not extended and _NOBODY.isdisjoint((parent[2], parent[3]))


@dataclass(slots=True, eq=False)
class RequestContext:
    """Identity of one request, and what is learnt of it on its way.

    ``stages`` are (name, begin, end) in seconds of ``time.monotonic``, ``answered`` is when the engine had its answer.
    Everything here is safe to log: the id is checked, route and model are ours.
    """

    request_id: str
    trace_id: str
    parent_id: str
    span_id: str
    flags: str
    route: str = ""
    model: str = ""
    version: str = ""
    began: float = field(default_factory=time.monotonic)
    answered: float = 0.0
    stages: list[tuple[str, float, float]] = field(default_factory=list)

    @classmethod
    def arrive(cls, request_id: str | None, traceparent: str | None, *, sampled: bool = False) -> Self:
        """Take a request's identity from its head.

        Parameters
        ----------
        request_id : str, optional
            The caller's; what is not 1 to 128 of ``A-Z a-z 0-9 . _ : / + = -`` is replaced, never echoed.
        traceparent : str, optional
            Of the caller's span; a malformed one starts a trace of our own, as the standard says.
        sampled : bool
            Whether a trace of our own is recorded.
        """
        drawn = os.urandom(24).hex()
        trace_id, parent_id, span_id, flags = drawn[:32], "", drawn[32:], "01" if sampled else "00"
        parent = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if parent and _known(parent):
            trace_id, parent_id, flags = parent[2], parent[3], parent[4]
        if request_id is None or not _REQUEST_ID.fullmatch(request_id):
            request_id = trace_id
        return cls(request_id, trace_id, parent_id, span_id, flags)

    @property
    def traceparent(self) -> str:
        """The request's own span, for the reply and for calls made on its behalf."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def note(self, stage: str, began: float, ended: float) -> None:
        """Note when a stage began and ended; of a stream without end only the first ones."""
        if len(self.stages) < _MOST_STAGES:
            self.stages.append((stage, began, ended))


CURRENT: ContextVar[RequestContext | None] = ContextVar("clearweight_request", default=None)
"""The request being answered in this task."""
