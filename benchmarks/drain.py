"""What a shutdown under load costs its callers: SIGTERM while both transports are busy, twenty times.

Callers with connections of long standing, callers with a connection for each request and gRPC callers send as fast as
they are answered, until they are refused. ``accepted`` are requests that were answered, ``lost`` those whose connection
broke after they had been sent. Requests wait for company (``max_delay_ms``), so that some always stand in the queue.
"""

import asyncio
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks.open_loop import LOST, UNSENT, Pool, http_request
from benchmarks.row import Row
from benchmarks.served_cnn import METHOD, PATH, bodies, write_cnn
from benchmarks.server_process import ports, process, service

BENCH = "drain"
_RUNS, _QUICK_RUNS = 20, 3
_CALLERS = 4
_BUSY_SECONDS = 0.5
_OK = 200


@dataclass
class Drained:
    """What one shutdown did: answers, losses, exit code of the server."""

    accepted: int = 0
    lost: int = 0
    exit_code: int | None = None


async def _keep(port: int, request: bytes, found: Drained) -> None:
    """Call on one connection as long as the server lets us; a reply that closes it leads to a new one."""
    pool = Pool(port)
    while (status := await pool.call(request)) == _OK:
        found.accepted += 1
    found.lost += status == LOST
    pool.close()


async def _knock(port: int, request: bytes, found: Drained) -> None:
    """Call on a new connection each time."""
    status = _OK
    while status == _OK:
        pool = Pool(port)
        status = await pool.call(request)
        found.accepted += status == _OK
        found.lost += status not in (_OK, UNSENT, 503)
        pool.close()


async def _call(port: int, message: bytes, found: Drained) -> None:
    """Call over gRPC until the server says that it is unavailable."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(METHOD)
        while True:
            try:
                await method(message, timeout=30)
            except grpc.aio.AioRpcError as error:
                found.lost += error.code() is not grpc.StatusCode.UNAVAILABLE
                return
            found.accepted += 1


async def drained(server: "subprocess.Popen[str]", found_ports: dict[str, int], folder: Path) -> Drained:
    """Load a server on both transports, terminate it, and count."""
    found = Drained()
    (body, headers), (message, _) = bodies(folder)["rest_binary"], bodies(folder)["grpc"]
    request = http_request(PATH, headers, body.read_bytes())
    http, rpc = found_ports["rest_binary"], found_ports["grpc"]
    callers = [_keep(http, request, found) for _ in range(_CALLERS)]
    callers += [_knock(http, request, found) for _ in range(_CALLERS)]
    callers += [_call(rpc, message.read_bytes(), found) for _ in range(_CALLERS)]
    tasks = [asyncio.create_task(caller) for caller in callers]
    await asyncio.sleep(_BUSY_SECONDS)
    server.send_signal(signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    found.exit_code = await asyncio.to_thread(server.wait, 60)
    return found


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Shut a loaded service down again and again."""
    del data
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = write_cnn(folder / "models")
        for index in range(1, 1 + (_QUICK_RUNS if quick else _RUNS)):
            with process(service(artifact, max_delay_ms=5), 0) as server:
                found = asyncio.run(drained(server, ports(server), folder))
            case = f"run{index}"
            yield Row(BENCH, case, "accepted", found.accepted, "requests")
            yield Row(BENCH, case, "lost", found.lost, "requests")
            yield Row(BENCH, case, "exit_code", found.exit_code, "code")
