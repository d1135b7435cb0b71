"""Refusing requests at their heads, before a task, a route or a body exist for them.

Under ten times its load a service spends its time on refusals. One that goes through the application costs a large part
of what an answer costs, so that little is answered at all; here it costs reading a head and writing a prepared answer.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from clearweight.service.access import Access, Role
from clearweight.service.core.context import CURRENT, RequestContext
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.errors import NotFoundError
from clearweight.service.log import log_request
from clearweight.service.rest.errors import error_response
from clearweight.service.rest.headers import reply_headers

Key: TypeAlias = tuple[str, str, str | None]
"""Verb, model, and version where the path names one."""

_PATH = re.compile(rb"/v2/models/([\w.-]+)(?:/versions/([\w.-]+))?/(infer|explain)", re.ASCII)
_VERBS = {b"infer": "predict", b"explain": "explain"}
_ROUTES = {False: "/v2/models/{model}/%s", True: "/v2/models/{model}/versions/{version}/%s"}
_LEFT_TO_ROUTES = frozenset({b"origin", b"expect"})
"""Browsers want headers of their own, and who asks before sending a body wants an answer before its end."""


class Turnstile:
    """Counts the requests on their way to each lane, and refuses those that would find it full.

    The lane itself has the exact bound. This one is twice as wide, because requests on their way include those whose
    answers are being written.

    Parameters
    ----------
    finished : callable, optional
        Told of every refusal, for traces.
    """

    def __init__(
        self,
        plane: Dataplane,
        access: Access,
        finished: Callable[[RequestContext, str, int | str, bool], None] | None = None,
    ) -> None:
        self._plane, self._access, self._finished = plane, access, finished
        self._inside: Counter[Key] = Counter()

    def key(self, method: bytes, url: bytes) -> Key | None:
        """Return what a request asks for, None where it is for no lane."""
        found = _PATH.fullmatch(url) if method == b"POST" else None
        if found is None:
            return None
        version = found[2]
        return _VERBS[found[3]], found[1].decode(), None if version is None else version.decode()

    @property
    def closing(self) -> bool:
        """Whether every answer is to end its connection."""
        return self._plane.leaving

    def enter(self, key: Key) -> None:
        """Let a request in."""
        self._inside[key] += 1

    def leave(self, key: Key) -> None:
        """Count a request out; names that callers make up are not kept."""
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]

    def refusal(self, key: Key, headers: Sequence[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes | None:
        """Return the whole answer of a request that there is no room for, None where it may go on.

        It is counted and logged as every answer is.
        """
        verb, model, version = key
        lane, given = self._plane.lanes[verb], dict(headers)
        # Whoever needs more than a refusal for want of room is answered, and counted, by the routes.
        if (
            self._inside[key] < lane.most_on_their_way
            or self._plane.refuses("rest")
            or not _LEFT_TO_ROUTES.isdisjoint(given)
            or not self._access.admits(Role.USER, _text(given.get(b"authorization")))
        ):
            return None
        try:
            slot = self._plane.engine.repository.slot(model, version)
        except NotFoundError:
            return None
        context = RequestContext.arrive(
            _text(given.get(b"x-request-id")),
            _text(given.get(b"traceparent")),
            sampled=self._finished is not None,
        )
        with self._plane.call(verb, "rest") as call:
            call.model, call.version = slot.name, slot.version
            context.model, context.version = slot.name, slot.version
            response = error_response(lane.refuse(slot.name))
            call.code = str(response.status_code)
        context.route = _ROUTES[version is not None] % ("infer" if verb == "predict" else verb)
        reset = CURRENT.set(context)
        seconds, sizes = time.monotonic() - context.began, (0, len(response.body))
        log_request(context, "rest", "POST", response.status_code, seconds, sizes, failed=False)
        CURRENT.reset(reset)
        if self._finished is not None:
            self._finished(context, "rest", response.status_code, False)
        return _written(response, context, keep_alive=keep_alive)


def _written(response: Response, context: RequestContext, *, keep_alive: bool) -> bytes:
    headers = reply_headers(response.raw_headers, context)
    if not keep_alive:
        headers.append((b"connection", b"close"))
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
    return b"".join((STATUS_LINE[response.status_code], lines, b"\r\n", response.body))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
