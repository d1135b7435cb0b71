"""What every REST reply carries and every REST request passes, whatever its route."""

import asyncio
import json
import re

import httpx
import pytest

from clearweight.service import web
from clearweight.service.access import Access, TokenSet
from clearweight.service.rest import create_app, guarded
from clearweight.service.rest.headers import reply_headers
from tests.service.conftest import Client, request_lines
from tests.service.rest.messages import EXPLAIN, INFER, body, refused

USER, ADMIN = "user-token-0123456789", "admin-token-0123456789"
PATHS = (
    "/v2",
    "/v2/models/tiny",
    "/v2/models/nobody",
    "/nowhere",
    "/metrics",
    "/docs",
    "/openapi.json",
    INFER,
)


def client(service, access=None, **settings):
    app = create_app(service.plane, service.metrics.exposition)
    return Client(guarded(app, access or Access(refused=service.metrics.observer.rejected), **settings))


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def open_http(service):
    return client(service)


@pytest.fixture
def closed_http(service):
    return client(service, Access(TokenSet(USER), TokenSet(ADMIN), refused=service.metrics.observer.rejected))


# -- identity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_every_reply_carries_the_requests_id_and_trace(open_http, path, verb):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    reply = open_http.request(verb, path, headers={"X-Request-Id": "order-17", "traceparent": parent})

    assert reply.headers["x-request-id"] == "order-17"
    assert re.fullmatch(parent.replace("00f067aa0ba902b7", "[0-9a-f]{16}"), reply.headers["traceparent"])
    assert "00f067aa0ba902b7" not in reply.headers["traceparent"]


def test_a_request_without_identity_is_given_one(open_http):
    one, two = (open_http.get("/v2").headers["x-request-id"] for _ in range(2))

    assert re.fullmatch("[0-9a-f]{32}", one)
    assert one != two


# -- tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, bearer("wrong-token-0123456789"), {"Authorization": "Basic eDp5"}])
def test_nothing_answers_without_a_known_token(closed_http, path, headers):
    reply = closed_http.get(path, headers=headers)

    refused(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("token", [USER, ADMIN])
def test_a_known_token_opens_everything_that_users_may(closed_http, token):
    assert closed_http.post(INFER, json=body(), headers=bearer(token)).status_code == 200
    assert closed_http.post(EXPLAIN, json=body(), headers=bearer(token)).status_code == 200
    assert closed_http.get("/metrics", headers=bearer(token)).status_code == 200
    refused(closed_http.get("/v2/models/nobody", headers=bearer(token)), 404)


def test_the_page_asks_for_the_token_itself_and_its_data_need_one(service):
    app = create_app(service.plane)
    app.router.routes.extend(web.routes(service.engine))
    http = Client(guarded(app, Access(TokenSet(USER)), static=web.is_static))

    for path in ("/", "/docs", "/web/page.js"):
        assert http.get(path).status_code == 200
    for path in ("/web/card/tiny", "/web/card/../card/tiny", "/openapi.json", "/v2/models", "//v2/models"):
        refused(http.get(path), 401)


def test_probes_go_without_a_token_unless_told_otherwise(service, closed_http):
    strict = client(service, Access(TokenSet(USER), anonymous_health=False))
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert closed_http.get(path).status_code == 200
        refused(strict.get(path), 401)


def test_scrapes_need_a_token_unless_told_otherwise(service):
    assert client(service, Access(TokenSet(USER), anonymous_metrics=True)).get("/metrics").status_code == 200


def test_refusals_are_counted_and_a_token_is_never_shown(service, closed_http):
    before = service.metrics.registry.get_sample_value(
        "clearweight_requests_rejected_total", {"reason": "unauthenticated"}
    )
    closed_http.get("/v2", headers=bearer("stolen-token-0123456789"))
    shown = (
        closed_http.get("/metrics", headers=bearer(USER)).text
        + closed_http.get("/openapi.json", headers=bearer(USER)).text
    )

    assert f'requests_rejected_total{{reason="unauthenticated"}} {before + 1}' in shown
    for token in (USER, ADMIN, "stolen-token-0123456789"):
        assert token not in shown


# -- headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_every_reply_is_safe_in_a_browser_and_names_no_software(open_http, path):
    headers = open_http.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert "x-powered-by" not in headers


def test_what_a_route_sets_itself_stays(open_http):
    class Identity:
        request_id, traceparent = "id", "trace"

    set_by_route = [(b"cache-control", b"max-age=60"), (b"content-security-policy", b"default-src 'self'")]
    found = reply_headers(set_by_route, Identity)

    assert [value for name, value in found if name == b"cache-control"] == [b"max-age=60"]
    assert [value for name, value in found if name == b"content-security-policy"] == [b"default-src 'self'"]


def test_pages_of_other_origins_are_told_nothing(open_http):
    reply = open_http.post(INFER, json=body(), headers={"Origin": "https://elsewhere.example"})
    preflight = open_http.request(
        "OPTIONS",
        INFER,
        headers={"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"},
    )

    for found in (reply, preflight):
        assert not [name for name in found.headers if name.startswith("access-control")]
    refused(preflight, 405)


def test_an_allowed_origin_may_read_and_others_still_not(service):
    http = client(service, Access(TokenSet(USER)), origins=["https://shop.example"])
    ours, theirs = {"Origin": "https://shop.example"}, {"Origin": "https://elsewhere.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

    preflight = http.request("OPTIONS", INFER, headers=ours | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in preflight.headers
    assert http.get("/v2", headers=ours | bearer(USER)).headers["access-control-allow-origin"]
    assert "access-control-allow-origin" not in http.get("/v2", headers=theirs | bearer(USER)).headers
    assert "access-control-allow-origin" not in http.request("OPTIONS", INFER, headers=theirs | asked).headers


# -- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused_unread(open_http, coding):
    reply = open_http.post(INFER, content=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": coding})

    refused(reply, 415)
    assert reply.headers["accept-encoding"] == "identity"


def post_in_pieces(app, pieces):
    """Post to the infer path in process, a piece whenever the generator gives one."""

    async def call():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            return await http.post(INFER, content=pieces())

    return asyncio.run(call())


def test_all_bodies_together_are_bounded_and_forgotten_with_their_requests(service):
    http = client(service, held_bytes=5000)

    async def pieces():
        for _ in range(10):
            yield b" " * 1000

    refused(post_in_pieces(http._app, pieces), 429)
    for _ in range(5):
        assert http.post(INFER, json=body()).status_code == 200


# -- log --------------------------------------------------------------------------------------------------------


def test_each_request_is_one_line_without_anything_a_caller_chose(open_http, log):
    secret = "patient-4711"
    answered = open_http.post(
        f"{INFER}?name={secret}",
        json=body(id=secret, parameters={"note": secret}),
        headers={"X-Request-Id": "order-17", "User-Agent": secret, "Authorization": f"Bearer {secret}"},
    )
    open_http.get(f"/v2/models/{secret}")
    open_http.get(f"/{secret}")

    found = request_lines(log)
    assert [(line["route"], line["status"], line.get("model")) for line in found] == [
        ("/v2/models/{model}/infer", 200, "tiny"),
        ("/v2/models/{model}", 404, None),
        ("unknown", 404, None),
    ]
    first = found[0]
    assert first["response_bytes"] == len(answered.content)
    assert first["request_bytes"] == len(answered.request.content)
    assert (first["method"], first["protocol"], first["version"], first["level"]) == (
        "POST",
        "rest",
        "10",
        "info",
    )
    assert 0 < first["duration_seconds"] < 60
    assert first["request_id"] == "order-17"
    assert secret not in log.getvalue()


def test_an_unexpected_failure_is_logged_under_the_requests_id_and_not_shown(
    service, open_http, log, monkeypatch
):
    monkeypatch.setattr(service.engine, "metadata", lambda *_: 1 / 0)
    reply = open_http.get("/v2/models/tiny", headers={"X-Request-Id": "order-17"})

    refused(reply, 500)
    assert "division" not in reply.text
    failure = next(line for line in map(json.loads, log.getvalue().splitlines()) if "exception" in line)
    assert "ZeroDivisionError" in failure["exception"]
    reference = re.search("Reference ([0-9a-f]+)", reply.text)[1]
    assert reference in failure["message"]
    assert failure["request_id"] == "order-17"
