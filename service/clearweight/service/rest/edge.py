"""What every REST request passes first and last, whatever its route: identity, bounds, headers, its line in the log.

Plain ASGI layers around the whole application, so that no route, documentation included, can be without them.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from clearweight.service.rest.headers import reply_headers

UNKNOWN_ROUTE = "unknown"
_CLIENT_LEFT = 499
"""As nginx writes it: the caller went away before the answer."""

Finished = Callable[[RequestContext, str, int | str, bool], None]
"""(context, protocol, status, failed): told of every request at its end, for traces."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """On bodies: the time within which each has to arrive, and the bytes that all together may hold in memory."""

    body_seconds: float = 30.0
    held_bytes: int = 256 * 1024 * 1024


def guarded(
    app: Starlette,
    access: Access,
    bounds: Bounds | None = None,
    *,
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
    bounds : Bounds, optional
        On bodies.
    role : Role
        What a path needs unless it is a probe or the metrics; an administrator on the admin port.
    static : callable, optional
        Whether a path is a file of a page, which holds no data and so needs no token.
    origins : sequence of str
        Web origins whose pages may read answers; none sends no CORS header at all.
    finished : callable, optional
        Told of every request at its end.
    """
    inner: ASGIApp = Admission(app, access, role, static)
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
    return Edge(inner, routes, bounds or Bounds(), finished)


class Edge:
    """The outermost layer; ``guarded`` explains its parameters, ``routes`` is endpoint to path template."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[Any, str],
        bounds: Bounds,
        finished: Finished | None,
    ) -> None:
        self._app, self._routes = app, routes
        self._bounds, self._finished = bounds, finished
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._bounds.body_seconds
        request = _Request(scope, receive, send, deadline, sampled=self._finished is not None)
        reset = CURRENT.set(request.context)

        async def bounded() -> Message:
            message = await request.receive(self._bounds.body_seconds)
            size = len(message.get("body", b""))
            if self._held + size > self._bounds.held_bytes:
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
    """One request's channels, counted and bounded in time."""

    __slots__ = ("_deadline", "_receive", "_send", "_whole", "context", "received", "sent", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, deadline: float, *, sampled: bool) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self.context = RequestContext.arrive(
            _text(headers.get(b"x-request-id")), _text(headers.get(b"traceparent")), sampled=sampled
        )
        self._receive, self._send, self._deadline = receive, send, deadline
        self._whole = False
        self.status, self.received, self.sent = _CLIENT_LEFT, 0, 0

    async def receive(self, seconds: float) -> Message:
        if self._whole:  # what is waited for now is the caller leaving
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise SlowRequestError(f"The body did not arrive within {seconds:g} seconds.") from error
        self._whole = not message.get("more_body", False)
        return message

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
