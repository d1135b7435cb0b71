"""Requests per second of the service over those of bare handlers on the same session.

Server and load generator pinned to one core each, short rounds of ours and the floor in turn, medians. ``over_floor``
is our requests per second divided by the floor's; ``cpu_over_floor`` is the floor's processor time per request divided
by ours, which says the same of an idle machine and hardly moves on a busy one.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.load import Load, Measured
from benchmarks.row import Row
from benchmarks.served_cnn import METHOD, PATH, bodies, write_cnn
from benchmarks.server_process import charged, ports, process, service

BENCH = "service_smoke"
CONNECTIONS = (1, 16)


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure every protocol at one and sixteen connections."""
    del data
    rounds, seconds = (3, 0.5) if quick else (7, 1.0)
    ours_paths = {"rest_json": PATH, "rest_binary": PATH, "grpc": METHOD}
    floor_paths = {"rest_json": "/json", "rest_binary": "/binary", "grpc": METHOD}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifact = write_cnn(folder / "models")
        ours = stack.enter_context(process(service(artifact), 0))
        floor = stack.enter_context(process(["-m", "benchmarks.bare_server", str(artifact)], 0))
        client = stack.enter_context(process(["-m", "benchmarks.load"], 1))
        servers = {
            "ours": (ours.pid, ports(ours), ours_paths),
            "floor": (floor.pid, ports(floor), floor_paths),
        }
        for protocol, (body, headers) in bodies(folder).items():
            for connections in CONNECTIONS:
                measured: dict[str, list[Measured]] = {"ours": [], "floor": []}
                for index in range(rounds + 1):
                    for who, (pid, found_ports, paths) in servers.items():
                        kind = "grpc" if protocol == "grpc" else "http"
                        path, port = paths[protocol], found_ports[protocol]
                        load = Load(kind, port, path, str(body), headers, connections, seconds)
                        found = charged(client, pid, load)
                        if found.errors:
                            raise RuntimeError(
                                f"{who} answered {found.errors} of its {protocol} requests with errors."
                            )
                        if index:  # the first round warms up
                            measured[who].append(found)
                yield from _rows(f"{protocol}/c{connections}", measured)


def _rows(case: str, measured: dict[str, list[Measured]]) -> Iterator[Row]:
    for prefix, who in (("", "ours"), ("floor/", "floor")):
        for metric, unit in (("requests_per_second", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms")):
            value = median(getattr(found, metric) for found in measured[who])
            yield Row(BENCH, prefix + case, metric, value, unit)
    ratios = [
        ours.requests_per_second / floor.requests_per_second
        for ours, floor in zip(measured["ours"], measured["floor"], strict=True)
    ]
    yield Row(BENCH, case, "over_floor", median(ratios), "ratio")
    yield Row(BENCH, case, "over_floor_min", min(ratios), "ratio")
    yield Row(BENCH, case, "over_floor_max", max(ratios), "ratio")
    costs = [
        floor.cpu_us / ours.cpu_us for ours, floor in zip(measured["ours"], measured["floor"], strict=True)
    ]
    for suffix, value in (("", median(costs)), ("_min", min(costs)), ("_max", max(costs))):
        yield Row(BENCH, case, f"cpu_over_floor{suffix}", value, "ratio")
