"""One REST listener: a socket, an application, and bounds on both; several may run in one event loop."""

import asyncio
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from clearweight.service.core.errors import LoadError
from clearweight.service.rest.connection import Bounds, bounded_protocol
from clearweight.service.rest.listening import ListeningServer
from clearweight.service.rest.turnstile import Turnstile


class RestServer:
    """An HTTP server over an application, in the running event loop; it listens from the start, answers from ``start``.

    Parameters
    ----------
    port : int
        0 takes a free one, told by ``port``.
    bounds : Bounds
        On connections, heads and bodies.
    turnstile : Turnstile, optional
        Refuses requests at their heads.
    tls : SSLContext, optional
        With it the port speaks TLS and nothing else.

    Raises
    ------
    LoadError
        The port is taken, or the address is none of this machine's.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        bounds: Bounds,
        grace_seconds: float,
        turnstile: Turnstile | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=bounded_protocol(bounds, turnstile),
            proxy_headers=False,  # nothing here asks for a caller's address
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=int(grace_seconds) or 1,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = ListeningServer(config, self._listener)

    async def start(self) -> asyncio.Task[None]:
        """Answer; the task ends when the server does."""
        task = asyncio.create_task(self._server.run_listener())
        await self._server.listening.wait()
        return task

    def stop(self) -> None:
        """Take nothing new, finish what runs, then end the task of ``start``."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise LoadError(f"Cannot listen for REST on {host}:{port}: {error.strerror}.") from error
    return listener
