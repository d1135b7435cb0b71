"""Anything at all, sent to a real server on both ports: never a 5xx of ours, never an end, memory flat.

Bounded and seeded; what is found here becomes a test of its own where it belongs.
"""

import json
import random
import socket
from collections import Counter
from pathlib import Path

import grpc
import httpx
import pytest

from clearweight.service.rpc.generated import explain_pb2
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from tests.service.conftest import start_server, stop_server
from tests.service.rest.messages import EXPLAIN, INFER, binary, body
from tests.service.rpc.test_oip import request

pytestmark = pytest.mark.timeout(900)

SEED = 20
MIB = 1 << 20
OURS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
BODY_BYTES = 200_000
PATHS = (
    INFER,
    EXPLAIN,
    "/v1/models/tiny:predict",
    "/v1/models/tiny:explain",
    "/v2/models/tiny/versions/9/infer",
    "/explanations/tiny",
    "/v2",
    "/metrics",
    "/v2/repository/index",
    "/",
)
TYPES = (
    "application/json",
    "application/octet-stream",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain",
    "image/png",
    "",
    "\x00",
)
VALUES = (
    None,
    True,
    -1,
    0,
    1 << 70,
    1e308,
    "",
    "a" * 1000,
    "\ud800",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
    [1, [2]],
)


@pytest.fixture(scope="module")
def server(models):
    started = start_server(
        models, max_body_bytes=BODY_BYTES, max_elements=20_000, body_seconds=1.0, log_level="error"
    )
    yield started
    assert stop_server(started) == 0


@pytest.fixture(autouse=True)
def unharmed(server):
    """Before and after: it answers, and its memory has not grown by more than 64 MiB."""
    before = memory(server)
    yield
    assert server.process.poll() is None
    assert httpx.post(server.url + INFER, json=body(), timeout=30).status_code == 200
    assert memory(server) - before < 64 * MIB


def memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def mutated(chance, data):
    """Bytes with a few changed, cut, doubled or dropped."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(4):
            case 0 if data:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
            case 2:
                del data[at : at + chance.randint(1, 50)]
            case 3:
                data = data[: at or None]
    return bytes(data)


def changed(chance, value):
    """A JSON value with something in it replaced or dropped."""
    if chance.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: changed(chance, value[key])}
    at = chance.randrange(len(value))
    return [*value[:at], changed(chance, value[at]), *value[at + 1 :]]


def rest(server, cases):
    found = {}
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for verb, path, settings in cases:
            try:
                reply = http.request(verb, path, **settings)
            except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError):
                continue  # the client itself refused to send it
            found[reply.status_code] = found.get(reply.status_code, 0) + 1
            assert reply.status_code < 500 or reply.status_code in (501, 503), (
                verb,
                path,
                settings,
                reply.text,
            )
            if reply.status_code >= 400:
                assert set(reply.json()) == {"error"}, (verb, path, settings)
            assert "x-request-id" in reply.headers
    assert sum(found.values()) > 100
    return found


def test_random_bodies_of_any_type(server):
    chance = random.Random(SEED)
    cases = []
    for _ in range(1500):
        headers = {"Content-Type": chance.choice(TYPES)}
        if chance.random() < 0.5:
            headers["Inference-Header-Content-Length"] = chance.choice(
                ["0", "1", "40", "-1", "1e3", "9" * 30, "é"]
            )
        content = chance.randbytes(chance.choice([0, 1, 10, 300, 5000]))
        cases.append(("POST", chance.choice(PATHS), {"content": content, "headers": headers}))
    rest(server, [case for case in cases if "\x00" not in case[2]["headers"]["Content-Type"]])


def test_nearly_right_json(server):
    chance = random.Random(SEED + 1)
    right = body(parameters={"method": "gradient", "steps": 2}, outputs=[{"name": "logits"}], id="a")
    right["inputs"][0]["data"] = right["inputs"][0]["data"][:128]
    cases = []
    for _ in range(2000):
        text = json.dumps(changed(chance, right)).encode()
        if chance.random() < 0.3:
            text = mutated(chance, text)
        cases.append(("POST", chance.choice(PATHS[:6]), {"content": text}))
    found = rest(server, cases)
    assert found[400] > 500


def test_nearly_right_binary(server):
    chance = random.Random(SEED + 2)
    right = binary()
    cases = []
    for _ in range(1000):
        length = int(right["headers"]["Inference-Header-Content-Length"]) + chance.choice(
            [0, 0, -1, 1, 10**6]
        )
        headers = {"Inference-Header-Content-Length": str(length)}
        cases.append(
            (
                "POST",
                chance.choice(PATHS[:2]),
                {"content": mutated(chance, right["content"]), "headers": headers},
            )
        )
    rest(server, cases)


def test_any_path_verb_and_header(server):
    chance = random.Random(SEED + 3)
    pieces = [
        "/",
        "v2",
        "models",
        "tiny",
        "..",
        "%2e",
        "%00",
        "%ff",
        "?",
        "é",
        ":predict",
        "\\",
        "a" * 200,
        ";",
        "%",
    ]
    cases = []
    for _ in range(1000):
        path = "/" + "".join(chance.choices(pieces, k=chance.randint(0, 8)))
        name = chance.choice(
            [
                "authorization",
                "x-request-id",
                "traceparent",
                "origin",
                "accept",
                "range",
                "host",
                "x-request-timeout",
            ]
        )
        value = "".join(chance.choices("abc09 -,;:=\"'é/\\", k=chance.randint(0, 60))).encode("latin-1")
        verb = chance.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
        cases.append((verb, path, {"headers": {name.encode(): value}}))
    rest(server, cases)


def test_raw_sockets(server):
    chance = random.Random(SEED + 4)
    text = json.dumps(body()).encode()
    right = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (INFER.encode(), len(text), text)
    chunked = (
        b'POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n' % INFER.encode()
    )
    for turn in range(400):
        data = mutated(chance, chance.choice([right, chunked, chance.randbytes(200)]))
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=0.2) as raw:
            try:
                raw.sendall(data)
                if turn % 4:
                    raw.shutdown(socket.SHUT_WR)
                reply = raw.recv(65536)
            except (TimeoutError, ConnectionError):
                continue
            status = reply.split()[1] if reply.startswith(b"HTTP/1.1 ") else b""
            assert not status.startswith(b"5"), (data, reply)


def test_random_bytes_at_the_grpc_port(server):
    chance = random.Random(SEED + 5)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    for turn in range(300):
        data = chance.randbytes(chance.choice([1, 50, 2000]))
        with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=0.1) as raw:
            try:
                raw.sendall(preface + data if turn % 2 else data)
                raw.recv(65536)
            except (TimeoutError, ConnectionError):
                continue


def test_protobuf_garbage_on_every_method(server):
    chance = random.Random(SEED + 6)
    explain = explain_pb2.ExplainRequest(model="tiny", method="gradient")
    explain.inputs.add(name="input", datatype="FP32", shape=[2, 1, 8, 8], raw=bytes(512))
    inference, ours = "/inference.GRPCInferenceService", "/clearweight.v1.ExplainService"
    methods = {
        f"{inference}/ModelInfer": request().SerializeToString(),
        f"{inference}/ModelMetadata": oip.ModelMetadataRequest(name="tiny").SerializeToString(),
        f"{inference}/ModelReady": oip.ModelReadyRequest(name="tiny").SerializeToString(),
        f"{inference}/RepositoryIndex": b"",
        f"{ours}/Explain": explain.SerializeToString(),
        f"{ours}/Drift": explain_pb2.DriftRequest(model="tiny").SerializeToString(),
        "/grpc.health.v1.Health/Check": b"\x0a\x01a",
        "/no.Such/Method": b"",
    }
    refused, ours_failed = Counter(), []
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for _ in range(2500):
            method = chance.choice(list(methods))
            message = mutated(chance, methods[method])
            code = code_of(
                lambda method=method, message=message: channel.unary_unary(method)(message, timeout=30)
            )
            refused[code] += 1
            if code in OURS:
                ours_failed.append((method, message))
        stream = channel.stream_stream(f"{ours}/ExplainStream")
        for _ in range(100):
            messages = [mutated(chance, explain.SerializeToString()) for _ in range(3)]
            code = code_of(lambda messages=messages: list(stream(iter(messages), timeout=30)))
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), messages
    assert not ours_failed
    assert refused[grpc.StatusCode.INVALID_ARGUMENT] > 100


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_many_large_bodies_at_once_hold_bounded_memory(server):
    raws = []
    for _ in range(200):
        raw = socket.create_connection(("127.0.0.1", server.http_port), timeout=5)
        raw.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), BODY_BYTES)
        )
        raw.sendall(b" " * 100_000)  # and then nothing
        raws.append(raw)
    before = memory(server)
    for raw in raws:
        assert b" 408 " in raw.recv(1000)
        raw.close()
    assert before < 512 * MIB
