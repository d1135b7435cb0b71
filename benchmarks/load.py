"""A closed-loop load generator that costs far less than any server it drives.

Plain sockets and prepared bytes: HTTP/1.1, and the few HTTP/2 frames a unary gRPC call is made of. Client
libraries in Python cost as much as the servers and would hide what is to be measured.

``python -m benchmarks.load`` reads one JSON object (``Load``) per line and answers each with one (``Measured``).
"""

import asyncio
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 4, 6, 7, 8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


@dataclass(frozen=True)
class Load:
    """What to send: ``http`` to ``path`` with headers, or ``grpc`` to a full method name.

    ``body`` is a file, or a folder of files that are sent in turn.
    """

    protocol: str
    port: int
    path: str
    body: str
    headers: dict[str, str]
    connections: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What came back in the measured time; ``cpu_us`` is the server's processor time per request, where it was read."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float = math.nan


class _Caller(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last one is complete."""

    def __init__(self, note: Callable[[float, bool], bool]) -> None:
        self._note, self._sent = note, 0.0
        self._buffer = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start calling."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.open()
        self.send()

    def answered(self, good: bool) -> None:
        """Record one answer and send the next request unless time is up."""
        if self._note(time.perf_counter() - self._sent, good):
            self.send()
        else:
            self.transport.close()

    def open(self) -> None:
        """Greet the server."""

    def send(self) -> None:
        """Send one request."""


class HttpCaller(_Caller):
    """HTTP/1.1 with keep-alive."""

    def __init__(self, note: Callable[[float, bool], bool], requests: Iterator[bytes]) -> None:
        super().__init__(note)
        self._requests, self._need = requests, 0

    def send(self) -> None:
        """Send the next prepared request."""
        request = next(self._requests)
        self._sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; its head says how long it is."""
        self._buffer += data
        if not self._need:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            start = head.index(b"content-length:") + 15
            self._need = end + 4 + int(head[start:].split(b"\r\n", 1)[0])
        if len(self._buffer) >= self._need:
            good = self._buffer.startswith(b"HTTP/1.1 200")
            self._need = 0
            self._buffer.clear()
            self.answered(good)


class GrpcCaller(_Caller):
    """Unary gRPC over HTTP/2, one stream at a time."""

    def __init__(self, note: Callable[[float, bool], bool], method: str, messages: Iterator[bytes]) -> None:
        """``messages`` come with their gRPC prefix."""
        super().__init__(note)
        self._headers = _header_block(method)
        self._messages, self._data = messages, next(messages)
        self._stream, self._window, self._waiting, self._filled = -1, 65535, False, False

    def open(self) -> None:
        """Send the preface and open the window for answers as wide as it goes."""
        wide = _frame(_WINDOW, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big"))
        self.transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + wide)

    def send(self) -> None:
        """Send one call, or wait for window to send it in."""
        self._waiting = len(self._data) > self._window
        if self._waiting:
            return
        self._stream += 2
        self._window -= len(self._data)
        self._filled = False
        self._sent = time.perf_counter()
        self.transport.write(
            _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            + _frame(_DATA, _END_STREAM, self._stream, self._data)
        )
        self._data = next(self._messages)

    def data_received(self, data: bytes) -> None:
        """Take frames as they come."""
        self._buffer += data
        while len(self._buffer) >= 9:
            end = 9 + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream, payload = int.from_bytes(self._buffer[5:9], "big"), bytes(self._buffer[9:end])
            del self._buffer[:end]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._filled = self._filled or len(payload) > 5
        elif kind == _HEADERS and flags & _END_STREAM:
            # An answer with a message in it; failed calls end with trailers alone.
            self.answered(self._filled)
        elif kind == _SETTINGS and not flags & _ACK:
            self.transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(payload, "big")
            if self._waiting:
                self.send()
        elif kind == _GOAWAY:
            self.answered(good=False)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _header_block(method: str) -> bytes:
    # HPACK, RFC 7541: static table entries 3 (POST) and 6 (http), then literals that are never indexed.
    def literal(name: bytes, value: bytes) -> bytes:
        return name + bytes((len(value),)) + value

    return (
        b"\x83\x86"
        + literal(b"\x04", method.encode())
        + literal(b"\x01", b"127.0.0.1")
        + literal(b"\x0f\x10", b"application/grpc")
        + literal(b"\x00\x02te", b"trailers")
    )


def prepared(load: Load, bodies: list[bytes]) -> Iterator[bytes]:
    """Return what to send, ready for the wire, without end."""
    if load.protocol == "grpc":
        return cycle([b"\0" + len(body).to_bytes(4, "big") + body for body in bodies])
    requests = []
    for body in bodies:
        lines = [f"POST {load.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in load.headers.items()]
        requests.append("\r\n".join([*lines, "", ""]).encode() + body)
    return cycle(requests)


async def measure(load: Load, bodies: list[bytes]) -> Measured:
    """Drive one server for ``load.seconds``."""
    times: list[float] = []
    errors = 0
    end = time.perf_counter() + load.seconds

    def note(seconds: float, good: bool) -> bool:
        nonlocal errors
        times.append(seconds)
        errors += not good
        return time.perf_counter() < end

    following = prepared(load, bodies)

    def caller() -> _Caller:
        if load.protocol == "grpc":
            return GrpcCaller(note, load.path, following)
        return HttpCaller(note, following)

    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    transports = [
        (await loop.create_connection(caller, "127.0.0.1", load.port))[0] for _ in range(load.connections)
    ]
    await asyncio.sleep(load.seconds + 0.05)
    elapsed = time.perf_counter() - started - 0.05
    for transport in transports:
        transport.close()
    milliseconds = 1e3 * np.array(times or [np.nan])
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return Measured(len(times) / elapsed, float(p50), float(p99), errors)


def main() -> None:
    """Answer loads line by line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            load = Load(**json.loads(line))
            given = Path(load.body)
            files = sorted(given.iterdir()) if given.is_dir() else [given]
            found = runner.run(measure(load, [file.read_bytes() for file in files]))
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
