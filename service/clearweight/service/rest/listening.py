"""How a REST listener begins and ends: without letting connections wait, and without losing a request it has taken.

The event loop's own server accepts one connection in each of its rounds, and a round is long when there is much to do:
under load new callers would wait for seconds. So all that wait are accepted at once.

Ending has an order. First every reply says ``Connection: close``, so that callers with connections of long standing
come back elsewhere of their own accord (RFC 9112, section 9.6). Then nothing new is taken: what the kernel has already
connected is, what it would connect from now on is refused. Then answers are finished, and only connections that have
been silent for a while are closed from this side.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clearweight.service.core.dataplane import Dataplane

_SILENCE = 0.1
_CLOSE = (b"connection", b"close")


class ListeningServer(uvicorn.Server):
    """Uvicorn without its own signal handlers: one place decides when all listeners end, and they end in order.

    Parameters
    ----------
    config : uvicorn.Config
    listener : socket
        Bound; this server alone accepts from it.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._listener = listener
        self._entering: set[asyncio.Task[None]] = set()

    async def run_listener(self) -> None:
        """Answer until ``should_exit``, then end."""
        # uvicorn closes what it is given; the copy keeps the port while those who knocked before are let in.
        self._port = self._listener.dup()
        self._port.setblocking(False)
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(self._port, self._let_in)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to ``serve``."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, finish what was taken, close."""
        for server in self.servers:
            server.close()
        asyncio.get_running_loop().remove_reader(self._port)
        self._let_in()
        self._port.close()
        await asyncio.gather(*self._entering)
        limit = self.config.timeout_graceful_shutdown
        with suppress(TimeoutError):
            await asyncio.wait_for(self._silence(), limit)
        await super().shutdown(sockets)

    def _let_in(self) -> None:
        """Take over all connections that the kernel has completed."""
        with suppress(OSError):  # there are no more, or no more file descriptors
            while True:
                connection, _ = self._port.accept()
                task = asyncio.create_task(self._enter(connection))
                self._entering.add(task)
                task.add_done_callback(self._entering.discard)

    async def _enter(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # it has left again, or speaks no TLS
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        config = self.config
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _silence(self) -> None:
        """Wait until nothing is being answered, and nothing has been for a moment."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while loop.time() - since < _SILENCE:
            await asyncio.sleep(_SILENCE / 5)
            if any(map(_busy, self.server_state.connections)):
                since = loop.time()


def _busy(connection: Any) -> bool:
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete


def closing(app: ASGIApp, plane: Dataplane) -> ASGIApp:
    """Let every reply of a service that is leaving say that its connection ends."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if not plane.leaving:
            await app(scope, receive, send)
            return

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], _CLOSE]}
            await send(message)

        await app(scope, receive, last)

    return application
