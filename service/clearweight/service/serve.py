"""Both transports in one event loop, from the first line of output to exit code 0 after a signal."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from math import prod

import uvicorn
import uvloop

from clearweight.artifact import Manifest, TensorSpec
from clearweight.service import web
from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import LoadError
from clearweight.service.metrics import Metrics
from clearweight.service.rest import create_app
from clearweight.service.rpc import RpcServer
from clearweight.service.settings import Settings

Say = Callable[[str], None]


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
    metrics = Metrics()
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
        listener = _listen(settings.host, settings.http_port)
        app = create_app(plane, metrics.exposition)
        app.router.routes.extend(web.routes(engine))
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=int(settings.grace_seconds) or 1,
        )
        http = _Http(config)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        rpc = RpcServer(plane, f"{host}:{settings.grpc_port}")
        await rpc.start()
        rest = asyncio.create_task(http.serve(sockets=[listener]))
        await http.listening.wait()
        _announce(plane, host, listener.getsockname()[1], rpc.port, say)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, rest}, return_when=asyncio.FIRST_COMPLETED)
        plane.leaving = True
        await rpc.report()
        await asyncio.sleep(settings.drain_seconds)
        plane.draining = True
        http.should_exit = True
        await asyncio.gather(rpc.stop(settings.grace_seconds), rest)
        stopped.cancel()
    finally:
        plane.close()
    say("Stopped.")


class _Http(uvicorn.Server):
    """Uvicorn without its own signal handlers: one place decides when both transports end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to ``serve``."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise LoadError(f"Cannot listen for REST on {host}:{port}: {error.strerror}.") from error
    return listener


def _announce(plane: Dataplane, host: str, http_port: int, grpc_port: int, say: Say) -> None:
    engine = plane.engine
    ready = {f"{slot.name}/{slot.version}": slot.ready for slot in engine.repository}
    say(json.dumps({"http_port": http_port, "grpc_port": grpc_port, "models": ready}))
    where = "127.0.0.1" if host in ("0.0.0.0", "[::]") else host  # noqa: S104  # compared, not bound
    base = f"http://{where}:{http_port}"
    say(f"REST  {base}   metrics {base}/metrics   documentation {base}/docs")
    say(f"gRPC  {where}:{grpc_port}")
    for slot in engine.repository:
        state = "ready" if slot.ready else f"NOT READY: {slot.reason}"
        say(f"model {slot.name} version {slot.version}: {state}")
        if slot.model is None:
            continue
        for line in example_calls(base, slot.model.manifest):
            say(f"  {line}")
    say("Stop with Ctrl-C.")


def example_calls(base: str, manifest: Manifest) -> list[str]:
    """Return curl lines that work as they stand: predict and explain a zero input, read the drift report."""
    tensors = ", ".join(
        f'{{\\"name\\": \\"{spec.name}\\", \\"shape\\": {_one(spec)}, \\"datatype\\": \\"{spec.datatype}\\", '
        f'\\"data\\": [$(yes 0 | head -n {prod(_one(spec))} | paste -sd, -)]}}'
        for spec in manifest.inputs
    )
    verbs = ("infer", "explain") if manifest.default_explainer else ("infer",)
    model = f"{base}/v2/models/{manifest.name}"
    calls = [f'curl -s {model}/{verb} -d "{{\\"inputs\\": [{tensors}]}}"' for verb in verbs]
    return [*calls, f"curl -s {model}/drift"]


def _one(spec: TensorSpec) -> list[int]:
    return [1 if size == -1 else size for size in spec.shape]
