"""One HTTP connection with bounds: how long a head may take, how large it may be, how many connections there are.

Uvicorn reads HTTP and bounds none of these with the fast parser.
"""

import asyncio
import time
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 32 * 1024
HEAD_SECONDS = 10.0
ARRIVED = "clearweight.arrived"
"""Key of an ASGI scope: the ``time.monotonic`` at which a request's head began to be read."""


def bounded_protocol(
    connections: int, head_bytes: int = HEAD_BYTES, head_seconds: float = HEAD_SECONDS
) -> type[HttpToolsProtocol]:
    """Return a protocol class for ``uvicorn.Config(http=...)``.

    Parameters
    ----------
    connections : int
        Most connections of one listener at a time; one more is answered 503 and closed.
    head_bytes : int
        Longest request line and headers together; a longer head is answered 431.
    head_seconds : float
        Time for a head to arrive, from its first byte or from the connection's begin.
    """

    class Bounded(_Bounded):
        limits = (connections, head_bytes, head_seconds)

    return Bounded


class _Bounded(HttpToolsProtocol):
    limits: tuple[int, int, float]

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_head, self._head_size, self._ended = True, 0, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take the connection, or turn it away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits[0]:
            self._end(503, f"More than {self.limits[0]} connections.")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and count what belongs to a head."""
        if self.transport.is_closing():
            return
        self._ended = False
        super().data_received(data)
        # A piece in which a request ended was its body for the most part, not the head of the next one.
        if self._in_head and not self._ended and self.parser is not None:
            self._head_size += len(data)
            if self._head_size > self.limits[1]:
                self._end(431, f"The head of the request is longer than {self.limits[1]} bytes.")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self.scope[ARRIVED] = time.monotonic()  # type: ignore[literal-required]  # a key of ours
        self._await_head()

    def on_headers_complete(self) -> None:
        """End a head."""
        self._stop_timer()
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits[1]:
            self._end(431, f"The head of the request is longer than {self.limits[1]} bytes.")
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request; what comes next is a head."""
        if not self.transport.is_closing():
            super().on_message_complete()
        self._in_head, self._head_size, self._ended = True, 0, True

    def on_body(self, body: bytes) -> None:
        """Read a piece of the body."""
        if not self.transport.is_closing():
            super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form that every failure has."""
        self._end(400, msg)

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(self.limits[2], self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._end(408, f"The head of the request did not arrive within {self.limits[2]:g} seconds.")

    def _end(self, status: int, text: str) -> None:
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": text})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
