"""Ten minutes at high rate on all protocols: whether memory, open files or threads grow.

Sixteen connections, protocols in turn, each turn two seconds. What is compared are the means of the second tenth of
the time, when every buffer has been used, and of the last tenth.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load import Load
from benchmarks.row import Row
from benchmarks.served_cnn import METHOD, PATH, bodies, write_cnn
from benchmarks.server_process import ask, open_files, ports, process, resident_bytes, service, threads

BENCH = "soak"
_SECONDS, _QUICK_SECONDS = 600.0, 30.0
_TURN_SECONDS = 2.0
_CONNECTIONS = 16


@dataclass(frozen=True)
class Sample:
    """One look at the server, between two turns."""

    requests: float
    errors: int
    resident: int
    files: int
    threads: int


def soak(seconds: float) -> list[Sample]:
    """Load a service for ``seconds`` and look at it after every turn."""
    samples = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = write_cnn(folder / "models")
        asked = bodies(folder)
        with process(service(artifact), 0) as server, process(["-m", "benchmarks.load"], 1) as client:
            found = ports(server)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for protocol, (body, headers) in asked.items():
                    kind, path = ("grpc", METHOD) if protocol == "grpc" else ("http", PATH)
                    port = found[protocol]
                    load = Load(kind, port, path, str(body), headers, _CONNECTIONS, _TURN_SECONDS)
                    measured = ask(client, load)
                    samples.append(
                        Sample(
                            measured.requests_per_second * _TURN_SECONDS,
                            measured.errors,
                            resident_bytes(server.pid),
                            open_files(server.pid),
                            threads(server.pid),
                        )
                    )
    return samples


def growth(values: list[int]) -> float:
    """Return by how much the mean of the last tenth is above that of the second tenth."""
    tenth = max(1, len(values) // 10)
    return float(np.mean(values[-tenth:]) - np.mean(values[tenth : 2 * tenth]))


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Load, look, compare."""
    del data
    seconds = _QUICK_SECONDS if quick else _SECONDS
    samples = soak(seconds)
    case = f"{seconds / 60:g}min"
    yield Row(BENCH, case, "requests", sum(sample.requests for sample in samples), "requests")
    yield Row(BENCH, case, "errors", sum(sample.errors for sample in samples), "requests")
    yield Row(BENCH, case, "rss_growth_mb", growth([s.resident for s in samples]) / 1e6, "MB")
    yield Row(BENCH, case, "rss_mb", samples[-1].resident / 1e6, "MB")
    yield Row(BENCH, case, "fd_growth", growth([s.files for s in samples]), "files")
    yield Row(BENCH, case, "thread_growth", growth([s.threads for s in samples]), "threads")
