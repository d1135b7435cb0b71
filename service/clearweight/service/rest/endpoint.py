"""One row of a table of paths, and the application that answers it; FastAPI's reading of arguments stays out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from clearweight.service.rest.errors import error_response

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Row:
    """One operation: verb and path, what answers it, and its row in ``documents.DOCUMENTS``."""

    verb: str
    path: str
    answer: Answer
    document: str


class Endpoint:
    """One path's ASGI application; an exception of any kind becomes its answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._answer(Request(scope, receive))
        except Exception as error:  # noqa: BLE001  # no exception text of ours may reach a caller unseen
            response = error_response(error)
        await response(scope, receive, send)


def routes(table: Sequence[Row]) -> list[Route]:
    """Return the routes of a table, in its order."""
    return [Route(row.path, Endpoint(row.answer), methods=[row.verb]) for row in table]


class Direct:
    """An ASGI layer that leads to endpoints past the layers FastAPI has round each; all else is FastAPI's.

    What those are for does not concern an ``Endpoint``, which reads its own body and answers its own failures.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._routes = [r for r in app.routes if isinstance(r, Route) and isinstance(r.endpoint, Endpoint)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await route.app(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def json_response(value: object) -> Response:
    """Return a value as JSON."""
    return Response(orjson.dumps(value), 200, None, "application/json")
