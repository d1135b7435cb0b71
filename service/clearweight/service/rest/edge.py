"""What every REST request passes first and last, whatever its route: identity, bounds, headers, its line in the log.

Plain ASGI layers around the whole application, so that no route, documentation included, can be without them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearweight.service.access import Access, Role
from clearweight.service.core.context import CURRENT, RequestContext
from clearweight.service.core.errors import QueueFullError, SlowRequestError
from clearweight.service.log import log_request
from clearweight.service.rest.admission import Admission
from clearweight.service.rest.connection import SLOW, SLOW_BODY
from clearweight.service.rest.endpoint import Direct
from clearweight.service.rest.headers import reply_headers

UNKNOWN_ROUTE = "unknown"
_CLIENT_LEFT = 499
"""As nginx writes it: the caller went away before the answer."""

Finished = Callable[[RequestContext, str, int | str, bool], None]
"""(context, protocol, status, failed): told of every request at its end, for traces."""


HELD_BYTES = 256 * 1024 * 1024
"""What the bodies of all requests together may hold in memory."""


def guarded(
    app: Starlette,
    access: Access,
    *,
    held_bytes: int = HELD_BYTES,
    role: Role = Role.USER,
    static: Callable[[str], bool] | None = None,
    origins: Sequence[str] = (),
    finished: Finished | None = None,
) -> ASGIApp:
    """Put the layers around an application.

    Parameters
    ----------
    app : Starlette
        All routes; none is added later.
    access : Access
        Who may call.
    held_bytes : int
        What the bodies of all requests together may hold in memory.
    role : Role
        What a path needs unless it is a probe or the metrics; an administrator on the admin port.
    static : callable, optional
        Whether a path is a file of a page, which holds no data and so needs no token.
    origins : sequence of str
        Web origins whose pages may read answers; none sends no CORS header at all.
    finished : callable, optional
        Told of every request at its end.
    """
    inner: ASGIApp = Admission(Direct(app), access, role, static)
    if origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Inference-Header-Content-Length",
                "X-Request-Id",
                "traceparent",
            ],
            expose_headers=["Inference-Header-Content-Length", "X-Request-Id", "traceparent", "Retry-After"],
        )
    # By what answers them: FastAPI's router does not say which route it took.
    routes = {route.endpoint: route.path for route in app.routes if isinstance(route, Route)}
    routes |= {route.app: route.path for route in app.routes if isinstance(route, Mount)}
    return Edge(inner, routes, held_bytes, finished)


class Edge:
    """The outermost layer; ``guarded`` explains its parameters, ``routes`` is endpoint to path template."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[Any, str],
        held_bytes: int,
        finished: Finished | None,
    ) -> None:
        self._app, self._routes = app, routes
        self._most, self._finished = held_bytes, finished
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, send, sampled=self._finished is not None)
        reset = CURRENT.set(request.context)

        async def bounded() -> Message:
            message = await receive()
            if SLOW in scope:
                raise SlowRequestError(SLOW_BODY.format(scope[SLOW]))
            size = len(message.get("body", b""))
            if self._held + size > self._most:
                raise QueueFullError(f"Requests hold {self._held} bytes in memory, no more are taken now.")
            self._held += size
            request.received += size
            return message

        try:
            await self._app(scope, bounded, request.send)
        finally:
            self._held -= request.received
            context, status = request.context, request.status
            context.route = self._routes.get(scope.get("endpoint"), UNKNOWN_ROUTE)
            sizes = (request.received, request.sent)
            seconds = time.monotonic() - context.began
            log_request(context, "rest", scope["method"], status, seconds, sizes, failed=status >= 500)
            if self._finished is not None:
                self._finished(context, "rest", status, status >= 500)
            CURRENT.reset(reset)


class _Request:
    """One request's identity and answer."""

    __slots__ = ("_send", "context", "received", "sent", "status")

    def __init__(self, scope: Scope, send: Send, *, sampled: bool) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self.context = RequestContext.arrive(
            _text(headers.get(b"x-request-id")), _text(headers.get(b"traceparent")), sampled=sampled
        )
        self._send = send
        self.status, self.received, self.sent = _CLIENT_LEFT, 0, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.context.answered:
                self.context.note("encode", self.context.answered, time.monotonic())
            message["headers"] = reply_headers(message.get("headers", ()), self.context)
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
