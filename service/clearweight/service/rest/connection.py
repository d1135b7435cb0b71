"""One HTTP connection with bounds: time and size of a head, time for a body, how many connections there are.

Uvicorn reads HTTP and bounds none of these with the fast parser.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from clearweight.service.rest.turnstile import Key, Turnstile

ARRIVED = "clearweight.arrived"
"""Key of an ASGI scope: the ``time.monotonic`` at which a request's head began to be read."""
SLOW = "clearweight.slow"
"""Key of an ASGI scope: the seconds in which the body should have come, there once they are over."""
SLOW_BODY = "The body did not arrive within {:g} seconds."
_LINGER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one listener.

    Attributes
    ----------
    connections : most at a time; one more is answered 503 and closed
    head_bytes : longest request line and headers together; a longer head is answered 431
    head_seconds : time for a head to arrive, from its first piece or from the connection's begin
    body_seconds : time for a body to arrive, from the end of its head
    """

    connections: int = 1000
    head_bytes: int = 32 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0


def bounded_protocol(limits: Bounds, turnstile: Turnstile | None = None) -> type[HttpToolsProtocol]:
    """Return a protocol class for ``uvicorn.Config(http=...)``; the turnstile refuses requests at their heads."""

    class Connection(_Connection):
        bounds, gate = limits, turnstile

    return Connection


class _Connection(HttpToolsProtocol):
    bounds: Bounds
    gate: Turnstile | None

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._timer: asyncio.TimerHandle | None = None
        # Whether a message has begun and not ended, whether its head is still coming, whether one ended in this piece.
        self._begun, self._in_head, self._ended, self._head_size = False, True, False, 0
        self._lingering = False
        self._refusal: bytes | None = None  # of the request that is being read
        self._keep = True  # the connection, after that
        self._passed: Key | None = None  # of the request that is being answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take the connection, or turn it away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            self._end(503, f"More than {self.bounds.connections} connections.")
        else:
            self._await(self.bounds.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer and leave the turnstile."""
        self._stop_timer()
        self._leave()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The caller has sent all it will; one who was turned away has read his answer."""
        if self._lingering:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Read, count what belongs to a head, and see to it that what has begun comes to its end."""
        if self._over():
            return
        self._ended = False
        super().data_received(data)
        if self._over():
            return
        # A piece in which a request ended was its body for the most part, not the head of the next one.
        if self._in_head and not self._ended:
            self._head_size += len(data)
            if self._head_size > self.bounds.head_bytes:
                self._refuse_head()
                return
        if self._timer is None and (self._begun or not self._ended):
            self._await(self.bounds.head_seconds if self._in_head else self.bounds.body_seconds)

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self.scope[ARRIVED] = time.monotonic()  # type: ignore[literal-required]  # a key of ours
        self._begun = True

    def on_headers_complete(self) -> None:
        """End a head; where there is no room for its request, no task, no route and no body are made for it."""
        self._stop_timer()
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.bounds.head_bytes:
            self._refuse_head()
            return
        # A request that came before the last one was answered has its turn later.
        cycle: RequestResponseCycle | None = self.cycle
        if self.gate is not None and (cycle is None or cycle.response_complete):
            key = self.gate.key(self.parser.get_method(), self.url)
            if key is not None:
                self._keep = self.parser.should_keep_alive() and not self.gate.closing
                self._refusal = self.gate.refusal(key, self.headers, keep_alive=self._keep)
                if self._refusal is not None:
                    return
                self._passed = key
                self.gate.enter(key)
                # Called in the round in which the request's task begins, before anything more is read.
                self.loop.call_soon(self.gate.begin, key)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Read a piece of the body."""
        if self._refusal is None and not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what comes next is a head."""
        self._stop_timer()
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            self.transport.write(refusal)
            if not self._keep:
                self._linger()
                return
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif not self.transport.is_closing():
            super().on_message_complete()
        self._begun, self._in_head, self._ended, self._head_size = False, True, True, 0

    def on_response_complete(self) -> None:
        """End an answer."""
        self._leave()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form that every failure has."""
        self._end(400, msg)

    def _over(self) -> bool:
        return self._lingering or self.transport.is_closing()

    def _leave(self) -> None:
        if self._passed is not None and self.gate is not None:
            self.gate.leave(self._passed)
            self._passed = None

    def _await(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_head:
            text = f"The head of the request did not arrive within {self.bounds.head_seconds:g} seconds."
            self._end(408, text)
        elif self._refusal is not None:
            self._end(408, SLOW_BODY.format(self.bounds.body_seconds))
        elif self.cycle.response_complete:
            self.transport.close()  # it was answered before its end, and nobody waits for the rest
        else:
            self.scope[SLOW] = self.bounds.body_seconds  # type: ignore[literal-required]  # a key of ours
            self.cycle.message_event.set()  # whoever reads the body looks again

    def _refuse_head(self) -> None:
        self._end(431, f"The head of the request is longer than {self.bounds.head_bytes} bytes.")

    def _end(self, status: int, text: str) -> None:
        if self._over():
            return
        body = orjson.dumps({"error": text})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        self.transport.write(STATUS_LINE[status] + head + body)
        self._linger()

    def _linger(self) -> None:
        """Close without losing the answer: what has not been read when a socket closes resets the connection.

        RFC 9112, section 9.6: half-close, read on until the caller closes too, within a bound.
        """
        self._stop_timer()
        self._lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:  # TLS
            self.transport.close()
