"""What ten times its capacity does to the service, in an open loop, and how soon it is well again.

The CNN is widened until one prediction takes milliseconds, so that a load generator on one core can send ten times
what the server can compute. ``budget_ms`` is the longest wait for a thread (``predict_queue_timeout``): who waits
longer is refused. ``refused`` are 429, 503 and 504, and connections that could not be made; ``lost`` is what got no
answer at all. ``recovery_s`` runs from the last arrival to the first of five answers in a row, to single requests, none
slower than twice the slowest of the quiet ones before. ``generator_lag_ms`` is the 99th percentile of how late requests
left: far above a few milliseconds, the generator was the bottleneck and the run says little.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.load import Load
from benchmarks.open_loop import LOST, Pool, arrive, http_request
from benchmarks.row import Row
from benchmarks.served_cnn import PATH, bodies, write_cnn
from benchmarks.server_process import ask, ports, process, resident_bytes, service

BENCH = "overload"
FACTOR = 10
_WIDTH = 128
_BUDGET_SECONDS = 0.5
_SECONDS, _QUICK_SECONDS = 60.0, 6.0
_SETTLING = 0.2  # share of the time after which memory is read first
_OK = 200
_REFUSED = frozenset({429, 503, 504, -1})
_IN_A_ROW = 5


@dataclass(frozen=True)
class Overload:
    """What came of it; the names are those of the rows."""

    capacity_per_s: float
    offered_per_s: float
    answered: int
    refused: int
    lost: int
    accepted_p99_ms: float
    budget_ms: float
    rss_growth_mb: float
    recovery_s: float
    generator_lag_ms: float


UNITS = {
    "capacity_per_s": "1/s",
    "offered_per_s": "1/s",
    "answered": "requests",
    "refused": "requests",
    "lost": "requests",
    "accepted_p99_ms": "ms",
    "budget_ms": "ms",
    "rss_growth_mb": "MB",
    "recovery_s": "s",
    "generator_lag_ms": "ms",
}


async def _single(port: int, request: bytes) -> tuple[int, float]:
    pool = Pool(port)
    started = time.perf_counter()
    status = await pool.call(request)
    pool.close()
    return status, time.perf_counter() - started


async def _recovery(port: int, request: bytes, normal: float) -> float:
    """Return how long until single requests are answered again in no more than ``normal`` seconds."""
    ended = time.perf_counter()
    first, row = ended, 0
    while row < _IN_A_ROW and time.perf_counter() - ended < 60:
        asked = time.perf_counter()
        status, seconds = await _single(port, request)
        well = status == _OK and seconds <= normal
        first = asked if well and row == 0 else first
        row = row + 1 if well else 0
        await asyncio.sleep(0.01)
    return first - ended if row == _IN_A_ROW else float("inf")


async def _resident(pid: int, wait: float) -> int:
    await asyncio.sleep(wait)
    return resident_bytes(pid)


async def overloaded(pid: int, port: int, request: bytes, capacity: float, seconds: float) -> Overload:
    """Offer ten times ``capacity`` requests a second for ``seconds``."""
    quiet = [(await _single(port, request))[1] for _ in range(20)]
    memory = asyncio.create_task(_resident(pid, seconds * _SETTLING))
    outcomes = await arrive(port, request, FACTOR * capacity, seconds)
    recovery = await _recovery(port, request, 2 * max(quiet))
    grown = resident_bytes(pid) - await memory
    accepted = [1e3 * outcome.seconds for outcome in outcomes if outcome.status == _OK]
    return Overload(
        capacity_per_s=capacity,
        offered_per_s=len(outcomes) / seconds,
        answered=len(accepted),
        refused=sum(outcome.status in _REFUSED for outcome in outcomes),
        lost=sum(outcome.status == LOST for outcome in outcomes),
        accepted_p99_ms=float(np.quantile(accepted, 0.99)) if accepted else float("nan"),
        budget_ms=1e3 * _BUDGET_SECONDS,
        rss_growth_mb=grown / 1e6,
        recovery_s=recovery,
        generator_lag_ms=1e3 * float(np.quantile([outcome.lag for outcome in outcomes], 0.99)),
    )


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure the capacity in a closed loop, then overload."""
    del data
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = write_cnn(folder / "models", _WIDTH)
        body, headers = bodies(folder)["rest_binary"]
        request = http_request(PATH, headers, body.read_bytes())
        with (
            process(service(artifact, predict_queue_timeout=_BUDGET_SECONDS), 0) as server,
            process(["-m", "benchmarks.load"], 1) as client,
        ):
            port = ports(server)["rest_binary"]
            load = Load("http", port, PATH, str(body), headers, 16, 1.0 if quick else 5.0)
            capacity = max(ask(client, load).requests_per_second for _ in range(2))
            seconds = _QUICK_SECONDS if quick else _SECONDS
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(overloaded(server.pid, port, request, capacity, seconds))
    for metric, value in asdict(found).items():
        yield Row(BENCH, f"x{FACTOR}", metric, value, UNITS[metric])
