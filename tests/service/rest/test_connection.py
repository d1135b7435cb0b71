"""Bounds of one HTTP connection, spoken by hand over a socket to a real listener."""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from clearweight.service.access import Access
from clearweight.service.rest import Bounds, RestServer, create_app, guarded

HEAD = b"GET /x HTTP/1.1\r\nHost: x\r\n"
INFER_HEAD = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\n"


async def echo(scope, receive, send):
    """Answer with the size of the body, after a while when the path says so."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(1.0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
    await send({"type": "http.response.body", "body": b"%08d" % size})


@contextmanager
def listening(connections=4, app=echo, turnstile=None, head_bytes=2000):
    """Shorter bounds than in service: 2000 bytes, half a second."""
    bounds = Bounds(connections, head_bytes=head_bytes, head_seconds=0.5, body_seconds=0.5)
    loop, ready, servers = asyncio.new_event_loop(), threading.Event(), []

    async def run():
        server = RestServer(app, "127.0.0.1", 0, bounds=bounds, grace_seconds=1, turnstile=turnstile)
        task = await server.start()
        servers.append(server)
        ready.set()
        await task

    thread = threading.Thread(target=lambda: (asyncio.set_event_loop(loop), loop.run_until_complete(run())))
    thread.start()
    assert ready.wait(30)
    try:
        yield servers[0].port
    finally:
        loop.call_soon_threadsafe(servers[0].stop)
        thread.join()
        loop.close()


@pytest.fixture
def port():
    with listening() as opened:
        yield opened


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer(raw):
    """Read until the server closes; status and error."""
    data = b""
    while piece := raw.recv(65536):
        data += piece
    if not data:
        return None, ""
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"] if body.startswith(b"{") else body


def test_a_usual_request_keeps_its_connection(port):
    with connect(port) as raw:
        for _ in range(3):
            raw.sendall(HEAD + b"Content-Length: 3\r\n\r\nabc")
            received = b""
            while not received.endswith(b"00000003"):
                received += raw.recv(65536)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"A: " + b"a" * 3000,
        HEAD + b"A: b\r\n" * 500,
        b"GET /" + b"x" * 3000,
        HEAD + b"A: " + b"a" * 3000 + b"\r\n\r\n",
    ],
    ids=["endless value", "endless headers", "endless path", "large and whole"],
)
def test_a_head_beyond_the_limit_is_431(port, head):
    with connect(port) as raw:
        raw.sendall(head)
        status, error = answer(raw)
    assert status == 431
    assert "2000 bytes" in error


def test_a_large_body_right_behind_a_small_head_is_no_large_head(port):
    with connect(port) as raw:
        raw.sendall(HEAD + b"Connection: close\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
        assert answer(raw) == (200, b"00100000")


@pytest.mark.parametrize("sent", [b"", HEAD, b"\r\n", b"GET /x HT"])
def test_a_head_that_does_not_come_is_408(port, sent):
    with connect(port) as raw:
        raw.sendall(sent)
        began = time.monotonic()
        status, _ = answer(raw)
    assert status == 408
    assert time.monotonic() - began < 5


def test_a_head_that_drips_is_408_however_often_it_drips(port):
    with connect(port) as raw:
        raw.settimeout(0.05)
        received = b""
        for byte in HEAD * 2:
            with suppress(ConnectionError):
                raw.sendall(bytes([byte]))
            with suppress(TimeoutError):
                received = raw.recv(65536)
            if received:
                break
    assert b" 408 " in received


def test_a_slow_answer_is_not_a_slow_head(port):
    with connect(port) as raw:
        raw.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer(raw) == (200, b"00000000")


def test_what_is_no_http_is_answered_like_every_failure(port):
    with connect(port) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert answer(raw) == (400, "Invalid HTTP request received.")


def test_connections_are_bounded_and_a_place_is_free_again_when_one_closes():
    request = HEAD + b"Connection: close\r\n\r\n"
    with listening(connections=2) as port:
        held = [connect(port) for _ in range(2)]
        for raw in held:  # they are there once they were answered
            raw.sendall(HEAD + b"\r\n")
            raw.recv(65536)
        with connect(port) as raw:
            assert answer(raw)[0] == 503
        held.pop().close()
        until = time.monotonic() + 5
        status = None
        while status != 200 and time.monotonic() < until:
            with connect(port) as raw:
                raw.sendall(request)
                status, _ = answer(raw)
        assert status == 200
        held.pop().close()


def test_whoever_is_turned_away_while_sending_still_reads_why():
    """What lies unread when a socket closes resets the connection, and the answer is lost with it."""
    with listening(connections=1) as port, connect(port) as held:
        held.sendall(HEAD + b"\r\n")
        held.recv(65536)
        for _ in range(20):
            with connect(port) as raw:
                for _ in range(20):
                    raw.sendall(bytes(10_000))
                assert answer(raw)[0] == 503


def test_whoever_is_turned_away_is_not_waited_for_for_long():
    with listening(connections=0) as port, connect(port) as raw:
        began, gone = time.monotonic(), False
        assert answer(raw)[0] == 503
        while not gone and time.monotonic() - began < 10:
            try:
                raw.sendall(b"x")
            except OSError:
                gone = True
            time.sleep(0.05)
        assert gone


@pytest.mark.parametrize("sent", [b"", b"abc"], ids=["nothing", "a part"])
def test_a_body_that_does_not_come_is_408(service, sent):
    app = guarded(create_app(service.plane), Access())
    with listening(app=app) as port, connect(port) as raw:
        raw.sendall(INFER_HEAD + b"Content-Length: 10\r\n\r\n" + sent)
        status, error = answer(raw)
    assert status == 408
    assert error == "The body did not arrive within 0.5 seconds."


def test_a_body_that_drips_is_408_however_often_it_drips(service):
    app = guarded(create_app(service.plane), Access())
    with listening(app=app) as port, connect(port) as raw:
        raw.sendall(INFER_HEAD + b"Content-Length: 1000\r\n\r\n")
        raw.settimeout(0.05)
        received, began = b"", time.monotonic()
        while not received and time.monotonic() - began < 5:
            with suppress(ConnectionError):
                raw.sendall(b"x")
            with suppress(TimeoutError):
                received = raw.recv(65536)
    assert b" 408 " in received


def test_an_answer_before_the_body_does_not_wait_for_it_without_end(service):
    app = guarded(create_app(service.plane), Access())
    with listening(app=app) as port, connect(port) as raw:
        raw.sendall(INFER_HEAD.replace(b"tiny", b"nobody") + b"Content-Length: 10\r\n\r\n")
        assert answer(raw)[0] == 404


def test_a_slow_answer_is_no_slow_body():
    with listening() as port, connect(port) as raw:
        raw.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")
        assert answer(raw) == (200, b"00000003")


def test_all_who_wait_are_let_in_at_once():
    """The event loop's own server accepts one connection a round: five seconds with rounds of a tenth, as here."""
    rounds = []

    async def slow_round(scope, receive, send):
        await receive()
        rounds.append(time.monotonic())
        time.sleep(0.1)  # noqa: ASYNC251  # the loop is to be busy
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with listening(connections=100, app=slow_round) as port, connect(port) as first:
        first.sendall(HEAD + b"\r\n")
        while not rounds:
            time.sleep(0.001)
        crowd = [connect(port) for _ in range(50)]  # the kernel connects them meanwhile
        began = time.monotonic()
        crowd[-1].sendall(HEAD + b"\r\n")
        assert crowd[-1].recv(65536).startswith(b"HTTP/1.1 200")
        waited = time.monotonic() - began
        for raw in crowd:
            raw.close()
    assert waited < 2.0
