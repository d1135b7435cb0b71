"""An open-loop load generator for HTTP: requests leave when their time has come, whatever became of those before.

A closed loop slows down with its server and so never overloads it. Here arrivals are a Poisson process of fixed rate
(Schroeder, Wierman, Harchol-Balter, NSDI 2006), each on an idle connection or on a new one. How late the generator was
is told apart from how long the answer took.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np

UNSENT = -1
LOST = 0
_IDLE_SECONDS = 2.0
"""As any client, this one leaves a silent connection before the server does: a request that crosses the server's close
on its way is nobody's fault (RFC 9112, section 9.3.1)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes
    ----------
    lag : seconds that the generator itself was late; large values say that it was the bottleneck
    status : of the answer; ``LOST`` where the connection broke, ``UNSENT`` where none could be made
    seconds : from then to the answer, connecting included
    """

    lag: float
    status: int
    seconds: float


Ended = Callable[[int], None]
"""Told the status of an answer."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended: Ended | None = None
        self._turned_away = LOST  # the status of an answer that came before its request
        self.open = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits has lost its answer."""
        del exc
        self.open = False
        self._end(LOST)

    def send(self, request: bytes, ended: Ended) -> None:
        """Send one request."""
        self._ended = ended
        if self.open:
            self.transport.write(request)
        else:
            self._end(self._turned_away)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; its head says how long it is."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        start = head.index(b"content-length:") + 15
        if len(self._buffer) < end + 4 + int(head[start:].split(b"\r\n", 1)[0]):
            return
        if b"\r\nconnection: close" in head:
            self.open = False
            self.transport.close()
        self._buffer.clear()
        status = int(head[9:12])
        if self._ended is None:
            self._turned_away = status
        self._end(status)

    def _end(self, status: int) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(status)


class Pool:
    """Connections to one port: idle ones are used again, else another is made."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, Connection]] = []
        self._connecting: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, ended: Ended) -> None:
        """Send one request now, or as soon as there is a connection; ``ended`` is told what came of it."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.open and time.perf_counter() - since < _IDLE_SECONDS:
                self._over(connection, request, ended)
                return
            connection.transport.close()
        # No task but for a new connection: at ten thousand requests a second a task for each is what costs most.
        task = asyncio.create_task(self._connect(request, ended))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def call(self, request: bytes) -> int:
        """Send one request; returns its status, ``LOST`` or ``UNSENT``."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.send(request, lambda status: None if answer.done() else answer.set_result(status))
        return await answer

    async def _connect(self, request: bytes, ended: Ended) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        except OSError:
            ended(UNSENT)
            return
        self._over(connection, request, ended)

    def _over(self, connection: Connection, request: bytes, ended: Ended) -> None:
        def done(status: int) -> None:
            if connection.open:
                self._idle.append((time.perf_counter(), connection))
            ended(status)

        connection.send(request, done)

    def close(self) -> None:
        """Close what is idle."""
        for _, connection in self._idle:
            connection.transport.close()


def http_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Write a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def arrive(port: int, request: bytes, rate: float, seconds: float, seed: int = 0) -> Sequence[Outcome]:
    """Send requests at ``rate`` a second and wait for all of them, a minute at most; who waits longer is lost.

    Returns
    -------
    One outcome per request, in the order of their ends.
    """
    times = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, size=int(rate * seconds))).tolist()
    pool, outcomes, done = Pool(port), list[Outcome](), asyncio.Event()
    gc.disable()  # looking for garbage among a quarter of a million outcomes would count as the server's time
    started = time.perf_counter()

    def leave(due: float) -> None:
        begun = time.perf_counter()

        def ended(status: int) -> None:
            outcomes.append(Outcome(begun - started - due, status, time.perf_counter() - begun))
            if len(outcomes) == len(times):
                done.set()

        pool.send(request, ended)

    for due in times:
        wait = due - (time.perf_counter() - started)
        if wait > 0:
            await asyncio.sleep(wait)
        leave(due)
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), 60)
    gc.enable()
    pool.close()
    waiting = len(times) - len(outcomes)
    return [*outcomes, *(Outcome(0.0, LOST, time.perf_counter() - started) for _ in range(waiting))]
