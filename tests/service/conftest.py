"""Fixtures of the service's tests: artifacts on disk, an engine, both transports over it."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from starlette.types import ASGIApp

from clearweight.service import Engine, EngineOptions, Limits
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.log import JsonFormatter
from clearweight.service.metrics import Metrics
from clearweight.service.rest import create_app
from clearweight.service.rpc import Edge, RpcServer
from tests.service import artifacts

LIMITS = Limits(body_bytes=200_000, elements=20_000)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A repository: versions 9 and 10 of `tiny` with their references."""
    out = tmp_path_factory.mktemp("models")
    artifacts.write_pair(out, version="9", share=0.1)
    artifacts.write_pair(out, version="10")
    return out


class Client:
    """Calls an application in process, over ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def request(self, method: str, path: str, **settings) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, **settings)

        return asyncio.run(call())

    def get(self, path: str, **settings) -> httpx.Response:
        return self.request("GET", path, **settings)

    def post(self, path: str, **settings) -> httpx.Response:
        return self.request("POST", path, **settings)


@dataclass
class Service:
    metrics: Metrics
    engine: Engine
    plane: Dataplane
    http: Client


def open_service(directory: Path, options: EngineOptions) -> Iterator[Service]:
    metrics = Metrics()
    engine = Engine(directory, options, observer=metrics.observer, strict=False)
    plane = Dataplane(engine)
    metrics.watch(plane)
    yield Service(metrics, engine, plane, Client(create_app(plane, metrics.exposition)))
    plane.close()


@pytest.fixture(scope="session")
def shared(models) -> Iterator[Service]:
    yield from open_service(models, EngineOptions(limits=LIMITS))


@pytest.fixture
def service(shared) -> Iterator[Service]:
    """The shared service, left as it was found."""
    loaded = [slot.model for slot in shared.engine.repository if slot.model]
    reports = [model.integrity for model in loaded]
    yield shared
    shared.plane.draining = shared.plane.leaving = False
    for model, report in zip(loaded, reports, strict=True):
        model.integrity = report


@pytest.fixture
def http(service) -> Client:
    return service.http


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service writes to its log, from level info on."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("clearweight")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def request_lines(log: io.StringIO) -> list[dict[str, object]]:
    """The lines that tell of requests."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "clearweight.service.request"]


@pytest.fixture
def channel(service) -> Iterator[grpc.Channel]:
    """A channel to a gRPC server over the same dataplane as `http`."""
    with open_channel(service) as opened:
        yield opened


@contextmanager
def open_channel(service: Service, edge: Edge | None = None) -> Iterator[grpc.Channel]:
    """Start a gRPC server over a service's dataplane, in a thread of its own."""
    started: list[RpcServer] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def start() -> None:
        server = RpcServer(service.plane, "127.0.0.1:0", edge)
        await server.start()
        started.append(server)
        ready.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{started[0].port}") as opened:
            yield opened
    finally:
        asyncio.run_coroutine_threadsafe(started[0].stop(0), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class Process:
    process: subprocess.Popen
    http_port: int
    grpc_port: int
    models: dict[str, bool]
    admin_port: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"


SERVE = "import sys; from clearweight.service.serve import serve; from clearweight.service.settings import Settings\n"


def start_server(directory: Path, **settings) -> Process:
    """Start a real server on free ports; its first line says which."""
    given = {"models": str(directory), "http_port": 0, "grpc_port": 0, **settings}
    process = subprocess.Popen(
        [sys.executable, "-c", f"{SERVE}serve(Settings(**{given!r}))"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return Process(process, **json.loads(process.stdout.readline()))


def stop_server(server: Process) -> int:
    """End a server by SIGTERM and return its exit code."""
    server.process.terminate()
    server.process.communicate(timeout=60)
    return server.process.returncode


@pytest.fixture
def server(models) -> Iterator[Process]:
    started = start_server(models)
    yield started
    stop_server(started)
