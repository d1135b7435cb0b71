"""The client against a live server: both ways there, waited for and awaited, and the engine as the oracle."""

import asyncio
import io
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest
from PIL import Image

from clearweight.artifact import Preprocessing
from clearweight.client import (
    AsyncClient,
    Client,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServerError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
)
from clearweight.service import Engine
from tests.conformance import models as suite
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server

PIXELS = np.clip(artifacts.inputs(2, seed=7) * 100, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("client")
    scale = Preprocessing(raw_datatype="UINT8", scale=0.01)
    artifacts.write(out, preprocessing=scale, probes=("probe_path",), calibration=20)
    return out


@pytest.fixture(scope="module")
def server(folder):
    started = start_server(folder)
    yield started
    assert stop_server(started) == 0


@pytest.fixture(scope="module")
def engine(folder):
    with Engine(folder) as opened:
        yield opened


class Awaited:
    """An AsyncClient with the looks of a Client, so that one test holds for both."""

    def __init__(self, url, **settings):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, **settings)

    def __getattr__(self, verb):
        def call(*given, **settings):
            async def ask():
                return await getattr(self._client, verb)(*given, **settings)

            return self._runner.run(ask())

        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self._runner.close()


@pytest.fixture(params=["http", "grpc"])
def url(request, server):
    return server.url if request.param == "http" else f"grpc://127.0.0.1:{server.grpc_port}"


@pytest.fixture(params=[Client, Awaited])
def client(request, url):
    with request.param(url, model="tiny") as opened:
        yield opened


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_predict(client, engine):
    x = artifacts.inputs(3)
    found, direct = client.predict(x), engine.predict(x)

    assert (found.model, found.version) == (direct.model, direct.version)
    assert np.array_equal(found.logits, direct.logits)
    assert list(found.outputs) == ["logits"]
    # numpy's own floats are twice as long as the model's
    assert np.array_equal(client.predict(x.astype(np.float64)).logits, direct.logits)
    assert np.array_equal(client.predict({"input": PIXELS}).logits, engine.predict(PIXELS).logits)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"method": "gradient", "target": 2},
        {"method": "gradient", "target": [0, 4]},
        {"method": "gradient", "target": np.array([3, -1])},
        {"method": "probe_path", "steps": 3, "baseline": "black"},
        {"method": "probe_path", "baseline": artifacts.inputs(1, seed=3)},
        {"method": "input_x_gradient", "seed": 0},
    ],
)
def test_explain(client, engine, asked):
    x = artifacts.inputs(2)
    direct = (
        {**asked, "target": np.array(asked["target"])} if isinstance(asked.get("target"), list) else asked
    )
    found, expected = client.explain(x, **asked), engine.explain(x, **direct)

    assert np.array_equal(found.map, expected.map)
    assert np.array_equal(found.logits, expected.logits)
    assert np.array_equal(found.target, expected.target)
    assert dict(found.parameters) == dict(expected.parameters)
    assert (found.completeness_error is None) == (expected.completeness_error is None)
    assert list(found.outputs) == ["logits"]


def test_raw_floats_are_preprocessed_on_request(tmp_path):
    artifacts.write(tmp_path, preprocessing=Preprocessing("FP32", 1 / 8))
    ready, started = artifacts.inputs(2), start_server(tmp_path)
    try:
        for url in (started.url, f"grpc://127.0.0.1:{started.grpc_port}"):
            for kind in (Client, Awaited):
                with kind(url, model="tiny") as client:
                    direct, found = client.explain(ready), client.explain(ready * 8, preprocess=True)
                    assert np.array_equal(found.map, direct.map)
                    assert np.array_equal(client.predict(ready * 8, preprocess=True).logits, direct.logits)
                    assert not np.array_equal(client.predict(ready * 8).logits, direct.logits)
    finally:
        assert stop_server(started) == 0


def test_pictures_in_classes_and_pictures_out(client, engine, tmp_path):
    (tmp_path / "one.png").write_bytes(png(PIXELS[0, 0]))
    found = client.explain([tmp_path / "one.png", png(PIXELS[1, 0])], classification=2, picture="overlay")
    direct = engine.predict(PIXELS).logits

    assert np.array_equal(found.logits, direct)
    assert [row[0].label for row in found.classes] == ["abcde"[index] for index in direct.argmax(axis=1)]
    assert [len(row) for row in found.classes] == [2, 2]
    assert all(row[0].probability > row[1].probability for row in found.classes)
    assert [Image.open(io.BytesIO(data)).size for data in found.pictures] == [(256, 256)] * 2
    large = png(np.kron(PIXELS[0, 0], np.ones((2, 2), np.uint8)))
    assert client.predict(large, resize="stretch").logits.shape == (1, 5)
    with pytest.raises(InvalidRequestError, match="resize"):
        client.predict(large)


def test_metadata_ready_and_drift(client, engine):
    found, direct = client.metadata(), engine.metadata("tiny")

    assert (found.name, found.versions, found.platform) == (direct.name, direct.versions, direct.platform)
    assert [(s.name, s.datatype, s.shape) for s in found.inputs] == [("input", "FP32", (-1, 1, 8, 8))]
    assert [(s.name, s.datatype, s.shape) for s in found.outputs] == [("logits", "FP32", (-1, 5))]
    assert dict(found.properties) == dict(direct.properties)
    assert client.ready() is client.ready("tiny") is True
    report = client.drift()
    assert report["model"] == "tiny"
    assert report["fidelity"]["state"] == "passed"
    assert report["integrity"]["canaries"] == 16
    assert report["drift"]["state"] == "disabled"


def test_errors_have_names(client):
    x = artifacts.inputs(1)
    with pytest.raises(NotFoundError, match="other"):
        client.predict(x, model="other")
    with pytest.raises(NotFoundError, match="'7'"):
        client.predict(x, version="7")
    with pytest.raises(InvalidRequestError, match="lime"):
        client.explain(x, method="lime")
    with pytest.raises(InvalidRequestError, match="shape"):
        client.predict(x[:, :, :4])
    with pytest.raises(InvalidRequestError, match="cannot be sent"):
        client.predict(x.astype(complex))
    with pytest.raises(InvalidRequestError, match="expected bytes"):
        client.predict([3])


def test_the_only_model_needs_no_name_over_rest(server):
    with Client(server.url) as client:
        assert client.predict(artifacts.inputs(1)).model == "tiny"
        assert client.metadata().name == "tiny"


def test_over_grpc_a_model_must_be_named(server):
    with (
        Client(f"grpc://127.0.0.1:{server.grpc_port}") as client,
        pytest.raises(InvalidRequestError, match="name"),
    ):
        client.predict(artifacts.inputs(1))


@pytest.mark.parametrize("kind", [Client, Awaited])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there(kind, scheme):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
        with kind(url, model="tiny", timeout=5) as client, pytest.raises(UnreachableError):
            client.ready()


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://"])
def test_what_is_no_address(url):
    with pytest.raises(InvalidRequestError, match="no address"):
        Client(url)


@pytest.fixture
def slow(tmp_path_factory):
    out = suite.write_models(tmp_path_factory.mktemp("slow"))
    started = start_server(out, predict_queue=1, max_body_bytes=100_000)
    yield started
    assert stop_server(started) == 0


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_deadlines_overload_and_size(slow, scheme):
    url = slow.url if scheme == "http" else f"grpc://127.0.0.1:{slow.grpc_port}"
    turns = np.array([[3e5]], np.float32)
    with Client(url, model="slow") as client:
        assert client.predict(turns * 0 + 1).logits.tolist() == [[1.0]]
        with pytest.raises(DeadlineError):
            client.predict(turns, timeout=0.02)
        codes: list[type | None] = []

        def call():
            try:
                client.predict(turns)
                codes.append(None)
            except OverloadedError:
                codes.append(OverloadedError)

        callers = [threading.Thread(target=call) for _ in range(12)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert set(codes) == {None, OverloadedError}
        # Over gRPC a message too large and a full queue share a code.
        too_large = TooLargeError if scheme == "http" else OverloadedError
        with pytest.raises(too_large):
            client.predict(np.zeros((300_000, 1), np.float32))


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, UnauthenticatedError), (503, UnavailableError), (500, ServerError), (418, ServerError)],
)
def test_answers_that_are_no_answer(status, error, monkeypatch):
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text="<html>"))
    with Client("http://service") as client:
        client._transport._client = httpx.Client(transport=transport, base_url="http://service")
        with pytest.raises(error, match=str(status)):
            client.metadata("tiny")


def test_token_and_timeout_travel_with_the_call():
    seen = []

    def answer(request):
        seen.append(request.headers)
        return httpx.Response(429, json={"error": "Full."}, headers={"Retry-After": "3"})

    with Client("http://service", token="secret", timeout=7) as client:
        inner = client._transport._client
        client._transport._client = httpx.Client(
            transport=httpx.MockTransport(answer), base_url="http://service", headers=inner.headers
        )
        with pytest.raises(OverloadedError, match="Full") as caught:
            client.metadata("tiny")
    assert caught.value.retry_after == 3.0
    assert seen[0]["authorization"] == "Bearer secret"
    assert seen[0]["x-request-timeout"] == "7"


def test_it_brings_nothing_but_numpy_and_httpx():
    code = (
        "import sys, clearweight.client; clearweight.client.Client('http://localhost:1')\nprint(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert {"grpc", "google.protobuf", "onnxruntime", "torch", "fastapi", "pydantic"}.isdisjoint(loaded)
    assert {name for name in loaded if name.startswith("clearweight.")} == {
        name for name in loaded if name.startswith("clearweight.client")
    }
