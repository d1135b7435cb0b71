"""Refusing requests at their heads, before a task, a route or a body exist for them.

Under ten times its load a service spends its time on refusals. One that goes through the application costs a large part
of what an answer costs, so that little is answered at all; here it costs reading a head and writing a prepared answer.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from clearweight.service.access import Access, Role
from clearweight.service.core.context import CURRENT, RequestContext
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.errors import NotFoundError, QueueFullError
from clearweight.service.log import log_request
from clearweight.service.rest.errors import error_response
from clearweight.service.rest.headers import identity, with_defaults

Key: TypeAlias = tuple[str, str, str | None]
"""Verb, model, and version where the path names one."""
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_LONGEST = 512
"""Bytes of a path that can name a lane; a longer one is left to the routes."""
_KEPT = 1024
_PATH = re.compile(rb"/v2/models/([\w.-]+)(?:/versions/([\w.-]+))?/(infer|explain)", re.ASCII)
_VERBS = {b"infer": "predict", b"explain": "explain"}
_ROUTES = {False: "/v2/models/{model}/%s", True: "/v2/models/{model}/versions/{version}/%s"}
_LINE, _CLOSE = b"%s: %s\r\n", (b"connection", b"close")
_LEFT_TO_ROUTES = frozenset({b"origin", b"expect"})
"""Browsers want headers of their own, and who asks before sending a body wants an answer before its end."""


class Turnstile:
    """Counts the requests on their way to each lane, and refuses those that would find it full.

    There is no room where a lane's queue is full, counting with it the requests whose heads were read in this round of
    the event loop, whose tasks have not begun. A second bound, twice as wide, is on all between their head and the end
    of their answer, bodies that are slow to come among them. The lane itself has the last word.

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
        self._entering: Counter[tuple[str, str]] = Counter()  # by verb and model

    def key(self, method: bytes, url: bytes) -> Key | None:
        """Return what a request asks for, None where it is for no lane."""
        return _key(url) if method == b"POST" and len(url) <= _LONGEST else None

    @property
    def closing(self) -> bool:
        """Whether every answer is to end its connection."""
        return self._plane.leaving

    def enter(self, key: Key) -> None:
        """Let a request in."""
        self._inside[key] += 1
        self._entering[key[:2]] += 1

    def begin(self, key: Key) -> None:
        """Count a request no longer as entering: its task has begun, and its lane knows of it if it waits there."""
        self._entering[key[:2]] -= 1
        if not self._entering[key[:2]]:
            del self._entering[key[:2]]

    def leave(self, key: Key) -> None:
        """Count a request out; names that callers make up are not kept."""
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]

    def _full(self, key: Key) -> bool:
        verb, model, _ = key
        lane = self._plane.lanes[verb]
        if lane.crowded(model, self._entering[verb, model]):
            return True
        return self._inside[key] >= lane.most_on_their_way

    def refusal(self, key: Key, headers: Headers, *, keep_alive: bool) -> bytes | None:
        """Return the whole answer of a request that there is no room for, None where it may go on.

        It is counted and logged as every answer is.
        """
        if not self._full(key):
            return None
        (verb, model, version), given = key, dict(headers)
        # Whoever needs more than a refusal for want of room is answered, and counted, by the routes.
        if (
            self._plane.refuses("rest")
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
            error = self._plane.lanes[verb].refuse(slot.name)
            status, head, body = _refused(str(error), math.ceil(error.retry_after))
            call.code = str(status)
        context.route = _ROUTES[version is not None] % ("infer" if verb == "predict" else verb)
        reset = CURRENT.set(context)
        seconds, sizes = time.monotonic() - context.began, (0, len(body))
        log_request(context, "rest", "POST", status, seconds, sizes, failed=False)
        CURRENT.reset(reset)
        if self._finished is not None:
            self._finished(context, "rest", status, False)
        own = (*identity(context), *(() if keep_alive else (_CLOSE,)))
        return b"".join((head, *map(_LINE.__mod__, own), b"\r\n", body))


@lru_cache(_KEPT)
def _key(url: bytes) -> Key | None:
    found = _PATH.fullmatch(url)
    if found is None:
        return None
    version = found[2]
    return _VERBS[found[3]], found[1].decode(), None if version is None else version.decode()


@lru_cache(_KEPT)
def _refused(text: str, seconds: int) -> tuple[int, bytes, bytes]:
    """Return what all refusals of one lane share: the status, the head but for whom it answers, the body."""
    response = error_response(QueueFullError(text, seconds))
    lines = b"".join(_LINE % pair for pair in with_defaults(response.raw_headers))
    return response.status_code, STATUS_LINE[response.status_code] + lines, bytes(response.body)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
