"""Both transports in one event loop, from the first line of output to exit code 0 after a signal."""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from math import prod

import uvloop
from starlette.routing import Mount
from starlette.types import ASGIApp

from clearweight.artifact import Manifest, TensorSpec
from clearweight.service import web
from clearweight.service.access import Role
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import LoadError
from clearweight.service.log import configure
from clearweight.service.metrics import Metrics
from clearweight.service.rest import (
    Bounds,
    RestServer,
    Turnstile,
    closing,
    create_admin_app,
    create_app,
    guarded,
)
from clearweight.service.rest.worst import worst_routes
from clearweight.service.rpc import Edge, RpcServer
from clearweight.service.settings import Settings
from clearweight.service.tls import Tls

Say = Callable[[str], None]
_REFRESH_SECONDS = 1.0


def serve(settings: Settings, say: Say | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return.

    Parameters
    ----------
    say : callable, optional
        Where lines for people go; default standard output. The first line of all is machine-readable:
        ``{"http_port": ..., "grpc_port": ..., "models": {...}}``.

    Raises
    ------
    NotFoundError, LoadError
        No artifact there, none of them can be loaded, or a port is taken.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, say or _print))


def _print(line: str) -> None:
    with suppress(BrokenPipeError):  # whoever read the ports may be gone; serving goes on
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


async def _serve(settings: Settings, say: Say) -> None:
    # What the program itself consists of stays: without it, looking for garbage takes a millisecond instead of fifty.
    # Models come later, because they may go again.
    gc.freeze()
    configure(settings.log_level)
    metrics = Metrics()
    guards = _Guards(
        settings, metrics
    )  # first of all: what is wrong here is known before any model is loaded
    engine = Engine(settings.models, settings.engine(), observer=metrics.observer, strict=False)
    slots = list(engine.repository)
    if slots and all(slot.model is None for slot in slots) and not settings.watch_seconds:
        engine.close()
        raise LoadError(" ".join(slot.reason for slot in slots))
    plane = Dataplane(engine, settings.plane())
    metrics.watch(plane)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        await _run(settings, plane, metrics, guards, stop, say)
    finally:
        plane.draining = True
        plane.close()
    say("Stopped.")


class _Guards:
    """Who may call the ports, how they are encrypted, and who is told of requests."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.access, self.tls = settings.access(metrics.observer.rejected), settings.tls()
        self.tracing = settings.tracing()
        self.admin = settings.admin_access(self.access) if settings.admin_port is not None else None


async def _run(
    settings: Settings, plane: Dataplane, metrics: Metrics, guards: _Guards, stop: asyncio.Event, say: Say
) -> None:
    tls = guards.tls
    if guards.admin is not None:
        plane.extensions = (*plane.extensions, "model_repository")

    bounds = Bounds(settings.max_connections, body_seconds=settings.body_seconds)
    finished = guards.tracing.finished if guards.tracing else None

    def listener(app: ASGIApp, host: str, port: int, turnstile: Turnstile | None = None) -> RestServer:
        return RestServer(
            closing(app, plane),
            host,
            port,
            bounds=bounds,
            turnstile=turnstile,
            grace_seconds=settings.grace_seconds,
            tls=tls.context if tls else None,
        )

    app = create_app(plane, metrics.exposition)
    app.router.routes.extend(web.routes(plane.engine))
    front = guarded(
        app,
        guards.access,
        held_bytes=settings.max_held_bytes,
        static=web.is_static,
        origins=settings.cors_origins,
        finished=finished,
    )
    turnstile = Turnstile(plane, guards.access, finished)
    rest = [listener(front, settings.host, settings.http_port, turnstile)]
    if guards.admin is not None:
        # The page as well, with all it calls: here it may show the inputs that came with a model.
        stored = [*web.canary_routes(plane.engine), *worst_routes(plane.engine), Mount("/", app)]
        back = guarded(
            create_admin_app(plane, stored),
            guards.admin,
            held_bytes=settings.max_held_bytes,
            role=Role.ADMIN,
            static=web.is_static,
            finished=finished,
        )
        rest.append(listener(back, settings.admin_host, settings.admin_port or 0))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    rpc = RpcServer(
        plane,
        f"{host}:{settings.grpc_port}",
        Edge(guards.access, admin=guards.admin is not None, finished=finished),
        credentials=tls.credentials() if tls else None,
        connections=settings.max_connections,
    )
    await rpc.start()
    running = [await server.start() for server in rest]
    ports = {"http_port": rest[0].port, "grpc_port": rpc.port}
    if guards.admin is not None:
        ports["admin_port"] = rest[1].port
    _announce(settings, plane, ports, say)
    stopped = asyncio.create_task(stop.wait())
    watching = asyncio.create_task(_refresh(tls)) if tls else None
    await asyncio.wait({stopped, *running}, return_when=asyncio.FIRST_COMPLETED)
    plane.leaving = True
    await rpc.report()
    await asyncio.sleep(settings.drain_seconds)
    for server in rest:
        server.stop()
    await asyncio.gather(rpc.stop(settings.grace_seconds), *running)
    if guards.tracing is not None:
        await asyncio.to_thread(guards.tracing.close)
    for task in (stopped, watching):
        if task is not None:
            task.cancel()


async def _refresh(tls: Tls) -> None:
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        tls.refresh()


def _announce(settings: Settings, plane: Dataplane, ports: dict[str, int], say: Say) -> None:
    engine = plane.engine
    ready = {f"{slot.name}/{slot.version}": slot.ready for slot in engine.repository}
    say(json.dumps({**ports, "models": ready}))
    everywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
    where = "127.0.0.1" if everywhere else f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.tls_cert else "http"
    base = f"{scheme}://{where}:{ports['http_port']}"
    say(f"REST  {base}   metrics {base}/metrics   documentation {base}/docs")
    say(f"gRPC  {where}:{ports['grpc_port']}{' with TLS' if settings.tls_cert else ''}")
    if "admin_port" in ports:
        say(f"admin {scheme}://{settings.admin_host}:{ports['admin_port']}/v2/repository/index")
    curl = "curl -s" + (f" --cacert {settings.tls_cert}" if settings.tls_cert else "")
    if settings.needs_token:
        curl += ' -H "Authorization: Bearer $TOKEN"'
    for slot in engine.repository:
        state = "ready" if slot.ready else f"NOT READY: {slot.reason}"
        say(f"model {slot.name} version {slot.version}: {state}")
        if slot.model is None:
            continue
        for line in example_calls(base, slot.model.manifest, curl):
            say(f"  {line}")
    say("Stop with Ctrl-C.")


def example_calls(base: str, manifest: Manifest, curl: str = "curl -s") -> list[str]:
    """Return curl lines that work as they stand: predict and explain a zero input, read the drift report."""
    tensors = ", ".join(
        f'{{\\"name\\": \\"{spec.name}\\", \\"shape\\": {_one(spec)}, \\"datatype\\": \\"{spec.datatype}\\", '
        f'\\"data\\": [$(yes 0 | head -n {prod(_one(spec))} | paste -sd, -)]}}'
        for spec in manifest.inputs
    )
    verbs = ("infer", "explain") if manifest.default_explainer else ("infer",)
    model = f"{base}/v2/models/{manifest.name}"
    calls = [f'{curl} {model}/{verb} -d "{{\\"inputs\\": [{tensors}]}}"' for verb in verbs]
    return [*calls, f"{curl} {model}/drift"]


def _one(spec: TensorSpec) -> list[int]:
    return [1 if size == -1 else size for size in spec.shape]
