"""Whether a REST request may come in, decided on its head alone."""

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from clearweight.service.access import Access, Role
from clearweight.service.core.errors import ForbiddenError, MediaTypeError, ServiceError
from clearweight.service.rest.errors import error_response

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready"})
METRICS = "/metrics"
_LOOPBACK = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


class Admission:
    """An ASGI layer that refuses who may not call, and bodies in forms that are not read.

    Parameters
    ----------
    role : Role
        What a path needs unless it is a probe or the metrics; an administrator on the admin port.
    static : callable, optional
        Whether a path is a file of a page, which holds no data and so needs no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        role: Role = Role.USER,
        static: Callable[[str], bool] | None = None,
    ) -> None:
        self._app, self._access, self._role = app, access, role
        self._static = static or (lambda _: False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it."""
        if scope["type"] == "http":
            try:
                self._admit(scope["path"], dict(scope["headers"]))
            except ServiceError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        needed = self._role
        if path in HEALTH:
            needed = self._access.health
        elif path == METRICS:
            needed = min(self._access.metrics, self._role)
        elif self._static(path):
            needed = Role.ANYONE
        if self._access.tokenless and not _from_this_machine(headers):
            raise ForbiddenError("This port takes no token and so answers no browser.")
        given = headers.get(b"authorization")
        self._access.demand(needed, None if given is None else given.decode("latin-1"))
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise MediaTypeError("Compressed bodies are not read; send the body as it is.")


def _from_this_machine(headers: dict[bytes, bytes]) -> bool:
    """Tell whether no browser of a foreign page asks.

    It says its origin where it may write. A page whose own name was made to lead here (DNS rebinding) is of the same
    origin, but asks for that name.
    """
    return b"origin" not in headers and _LOOPBACK.fullmatch(headers.get(b"host", b"localhost")) is not None
