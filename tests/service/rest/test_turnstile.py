"""Refusals at the head of a request: what is refused, what is not, and that it looks and counts like every answer."""

import json
import time

import pytest

from clearweight.service.access import Access, TokenSet
from clearweight.service.rest import Turnstile, create_app, guarded
from tests.service.conftest import request_lines
from tests.service.rest.messages import body
from tests.service.rest.test_connection import INFER_HEAD, connect, listening

KEY = ("predict", "tiny", None)
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def counted(service, name, **labels):
    return service.metrics.registry.get_sample_value(name, labels) or 0.0


def full(turnstile, plane, key=KEY):
    for _ in range(plane.lanes[key[0]].most_on_their_way):
        turnstile.enter(key)
    return turnstile


@pytest.fixture
def crowded(service):
    return full(Turnstile(service.plane, Access()), service.plane)


@pytest.mark.parametrize(
    ("method", "url", "key"),
    [
        (b"POST", b"/v2/models/tiny/infer", ("predict", "tiny", None)),
        (b"POST", b"/v2/models/tiny/versions/10/explain", ("explain", "tiny", "10")),
        (b"GET", b"/v2/models/tiny/infer", None),
        (b"POST", b"/v2/models/tiny/ready", None),
        (b"POST", b"/v2/models/a/b/infer", None),
        (b"POST", b"/v2/models/tiny%2F/infer", None),
        (b"POST", b"/v2/models//infer", None),
    ],
)
def test_what_a_request_asks_for(service, method, url, key):
    assert Turnstile(service.plane, Access()).key(method, url) == key


def test_there_is_room_until_there_is_none_and_again_when_one_leaves(service):
    turnstile = Turnstile(service.plane, Access())
    most = service.plane.lanes["predict"].most_on_their_way
    for _ in range(most):
        assert turnstile.refusal(KEY, [], keep_alive=True) is None
        turnstile.enter(KEY)
    assert turnstile.refusal(KEY, [], keep_alive=True) is not None
    assert turnstile.refusal(("explain", "tiny", None), [], keep_alive=True) is None
    turnstile.leave(KEY)
    assert turnstile.refusal(KEY, [], keep_alive=True) is None


def test_what_enters_counts_as_waiting_until_its_task_has_begun(service, monkeypatch):
    turnstile, lane = Turnstile(service.plane, Access()), service.plane.lanes["predict"]
    monkeypatch.setattr(lane.crew, "waiting", lambda model: lane.capacity)  # and the free threads take some
    for _ in range(lane.crew.free):
        assert turnstile.refusal(KEY, [], keep_alive=True) is None
        turnstile.enter(KEY)
    assert turnstile.refusal(KEY, [], keep_alive=True) is not None
    assert turnstile.refusal(("predict", "tiny", "10"), [], keep_alive=True) is not None  # the same queue
    assert turnstile.refusal(("explain", "tiny", None), [], keep_alive=True) is None
    turnstile.begin(KEY)
    assert turnstile.refusal(KEY, [], keep_alive=True) is None


def test_what_entered_and_began_leaves_nothing_behind(service):
    turnstile = Turnstile(service.plane, Access())
    for key in (KEY, ("predict", "tiny", "9")):
        turnstile.enter(key)
    for key in (KEY, ("predict", "tiny", "9")):
        turnstile.begin(key)
        turnstile.leave(key)
    assert not turnstile._inside
    assert not turnstile._entering


def test_a_refusal_is_an_answer_like_every_other(service, crowded, log):
    before = counted(service, "clearweight_requests_rejected_total", reason="queue_full")
    labels = {"model": "tiny", "version": "10", "verb": "predict", "protocol": "rest", "code": "429"}
    answered = counted(service, "clearweight_requests_total", **labels)
    raw = crowded.refusal(
        KEY, [(b"x-request-id", b"order-17"), (b"traceparent", PARENT.encode())], keep_alive=True
    )

    head, _, text = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 429 Too Many Requests"
    assert int(headers["retry-after"]) >= 1
    assert int(headers["content-length"]) == len(text)
    assert headers["x-request-id"] == "order-17"
    assert headers["traceparent"].startswith(PARENT[:35])
    assert headers["x-content-type-options"] == "nosniff"
    assert "queue of 'tiny' is full" in json.loads(text)["error"]
    assert counted(service, "clearweight_requests_rejected_total", reason="queue_full") == before + 1
    assert counted(service, "clearweight_requests_total", **labels) == answered + 1
    (line,) = request_lines(log)
    assert line["status"] == 429
    assert line["request_id"] == "order-17"
    assert line["route"] == "/v2/models/{model}/infer"
    assert (line["model"], line["version"]) == ("tiny", "10")


@pytest.mark.parametrize("header", [(b"origin", b"https://a.example"), (b"expect", b"100-continue")])
def test_who_needs_more_than_a_refusal_goes_on_to_the_routes(crowded, header):
    assert crowded.refusal(KEY, [header], keep_alive=True) is None


def test_who_may_not_call_learns_that_and_not_how_busy_it_is(service):
    told = []
    access = Access(TokenSet("user-token-0123456789"), refused=told.append)
    turnstile = full(Turnstile(service.plane, access), service.plane)
    assert turnstile.refusal(KEY, [], keep_alive=True) is None
    assert turnstile.refusal(KEY, [(b"authorization", b"Bearer wrong")], keep_alive=True) is None
    assert not told  # the application tells, once
    known = [(b"authorization", b"Bearer user-token-0123456789")]
    assert turnstile.refusal(KEY, known, keep_alive=True) is not None


def test_models_that_callers_make_up_are_left_to_the_routes_and_not_counted_for_long(service):
    turnstile = Turnstile(service.plane, Access())
    made_up = ("predict", "nobody", None)
    full(turnstile, service.plane, made_up)
    before = service.metrics.exposition("")[0]
    assert turnstile.refusal(made_up, [], keep_alive=True) is None
    after = service.metrics.exposition("")[0]
    assert lines(before, b"clearweight_requests_total") == lines(after, b"clearweight_requests_total")
    for _ in range(service.plane.lanes["predict"].most_on_their_way):
        turnstile.leave(made_up)
    assert not turnstile._inside


def lines(text, name):
    return [line for line in text.splitlines() if line.startswith(name)]


def test_a_service_that_takes_nothing_more_says_that_and_not_how_busy_it_is(service, crowded):
    service.plane.draining = True
    assert crowded.refusal(KEY, [], keep_alive=True) is None


def exchange(raw, request):
    raw.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        piece = raw.recv(65536)
        if not piece:
            break
        received += piece
    return received


def infer_request(*headers):
    payload = json.dumps(body()).encode()
    lines = [INFER_HEAD, b"Content-Length: %d\r\n" % len(payload), *headers, b"\r\n", payload]
    return b"".join(lines)


def test_a_connection_outlives_its_refusal_and_is_answered_once_there_is_room(service):
    turnstile = full(Turnstile(service.plane, Access()), service.plane)
    app = guarded(create_app(service.plane), Access())
    with listening(app=app, turnstile=turnstile, head_bytes=20_000) as port, connect(port) as raw:
        for _ in range(3):
            assert exchange(raw, infer_request()).startswith(b"HTTP/1.1 429 ")
        turnstile.leave(KEY)
        for _ in range(3):  # each leaves when it has been answered
            assert exchange(raw, infer_request()).startswith(b"HTTP/1.1 200 ")
        turnstile.enter(KEY)
        refused = exchange(raw, infer_request(b"Connection: close\r\n"))
        assert b"connection: close" in refused
        assert raw.recv(1) == b""


def test_a_service_that_leaves_says_so_with_a_refusal(service):
    turnstile = full(Turnstile(service.plane, Access()), service.plane)
    service.plane.leaving = True
    app = guarded(create_app(service.plane), Access())
    with listening(app=app, turnstile=turnstile, head_bytes=20_000) as port, connect(port) as raw:
        assert b"connection: close" in exchange(raw, infer_request())
        assert raw.recv(1) == b""


def test_a_body_that_does_not_come_is_408_where_there_was_no_room_either(service):
    turnstile = full(Turnstile(service.plane, Access()), service.plane)
    with listening(turnstile=turnstile) as port, connect(port) as raw:
        raw.sendall(INFER_HEAD + b"Content-Length: 10\r\n\r\nabc")
        assert raw.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_who_leaves_before_the_answer_leaves_the_turnstile(service):
    turnstile = Turnstile(service.plane, Access())
    app = guarded(create_app(service.plane), Access())
    with listening(app=app, turnstile=turnstile) as port:
        with connect(port) as raw:
            raw.sendall(INFER_HEAD + b"Content-Length: 10\r\n\r\nabc")
            assert until(lambda: turnstile._inside == {KEY: 1})
        assert until(lambda: not turnstile._inside)


def until(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()
