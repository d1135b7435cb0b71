"""What watching costs: predict with metrics and self-tests over predict without, and throughput beside shadow runs.

Two servers of the same model take turns on one core, each stopped while the other is measured, and the load generator
has another; medians of ratios of neighbouring rounds. ``p50_on_over_off`` is the p50 with metrics and a self-test every
second over the p50 of a server that counts nothing and never tests. ``shadow_throughput_loss`` is what comparing 5 % of
the requests with the reference costs at 16 connections, the comparisons on the same core; seven rounds pass uncounted,
because drift limits are solved for the measured rate first. ``cpu_on_over_off`` and ``shadow_cpu_loss`` say the same in
processor time per request, which hardly depends on what else the machine does.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import Load, Measured
from benchmarks.row import Row
from benchmarks.served_cnn import METHOD, PATH, bodies, varied_bodies, write_cnn, write_explained
from benchmarks.server_process import pause, ports, process, turn

BENCH = "metrics_overhead"
SERVE = """
import json, sys
from clearweight.service import serve
from clearweight.service.core.observer import Observer
from clearweight.service.settings import Settings
class Blind:
    observer = Observer()
    exposition = None
    def watch(self, plane):
        pass
given = json.loads(sys.argv[2])
if given.pop("blind", False):
    serve.Metrics = Blind
serve.serve(Settings(models=sys.argv[1], http_port=0, grpc_port=0, log_level="warning", **given))
"""
ON = {"integrity_interval": 1.0}
OFF = {"integrity_interval": 0.0, "blind": True}


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure both."""
    del data
    rounds, seconds = (3, 0.5) if quick else (15, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        artifact = write_cnn(Path(folder) / "models")
        for protocol, (body, headers) in bodies(Path(folder)).items():
            path, kind = (METHOD, "grpc") if protocol == "grpc" else (PATH, "http")
            load = Load(kind, 0, path, str(body), headers, 1, seconds)
            pairs = _in_turn(artifact, {"on": ON, "off": OFF}, load, protocol, rounds)
            ratios = [on.p50_ms / off.p50_ms for on, off in pairs]
            yield Row(BENCH, f"{protocol}/c1", "p50_on_ms", median(on.p50_ms for on, _ in pairs), "ms")
            yield Row(BENCH, f"{protocol}/c1", "p50_off_ms", median(off.p50_ms for _, off in pairs), "ms")
            yield from _spread(f"{protocol}/c1", "p50_on_over_off", ratios)
            costs = [on.cpu_us / off.cpu_us for on, off in pairs]
            yield from _spread(f"{protocol}/c1", "cpu_on_over_off", costs)
        explained = write_explained(Path(folder) / "explained")
        settings: dict[str, dict[str, Any]] = {"on": {"shadow": 0.05}, "off": {"shadow": 0.0}}
        for protocol, (body, headers) in varied_bodies(Path(folder)).items():
            path, kind = (METHOD, "grpc") if protocol == "grpc" else (PATH, "http")
            load = Load(kind, 0, path, str(body), headers, 16, seconds)
            pairs = _in_turn(explained, settings, load, protocol, rounds, settling=rounds // 2)
            lost = [1.0 - on.requests_per_second / off.requests_per_second for on, off in pairs]
            yield from _spread(f"{protocol}/c16", "shadow_throughput_loss", lost)
            costs = [1.0 - off.cpu_us / on.cpu_us for on, off in pairs]
            yield from _spread(f"{protocol}/c16", "shadow_cpu_loss", costs)


def _in_turn(
    artifact: Path,
    settings: dict[str, dict[str, Any]],
    load: Load,
    protocol: str,
    rounds: int,
    settling: int = 1,
) -> list[tuple[Measured, Measured]]:
    found: list[tuple[Measured, Measured]] = []
    with ExitStack() as stack:
        client = stack.enter_context(process(["-m", "benchmarks.load"], 1))
        servers = {}
        for who, given in settings.items():
            server = stack.enter_context(process(["-c", SERVE, str(artifact), json.dumps(given)], 0))
            servers[who] = server.pid, replace(load, port=ports(server)[protocol])
            pause(server.pid)
        for index in range(rounds + settling):
            order = ("on", "off") if index % 2 else ("off", "on")
            pair = {who: turn(client, *servers[who]) for who in order}
            if pair["on"].errors or pair["off"].errors:
                raise RuntimeError(f"Errors were answered over {protocol}.")
            if index >= settling:
                found.append((pair["on"], pair["off"]))
    return found


def _spread(case: str, metric: str, values: list[float]) -> Iterator[Row]:
    for suffix, value in (("", median(values)), ("_min", min(values)), ("_max", max(values))):
        yield Row(BENCH, case, metric + suffix, value, "ratio")
