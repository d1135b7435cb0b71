"""What watching costs: predict with metrics and self-tests over predict without, and throughput beside shadow runs.

Two servers of the same model take turns on one core, the load generator has another; medians of ratios of
neighbouring rounds. ``p50_on_over_off`` is the p50 with metrics and a self-test every second over the p50 of a server
that counts nothing and never tests. With ``--data DIR`` that holds ``models`` (an exported repository with a reference
and a drift null), ``shadow_throughput_loss`` is what a shadow share of 5 % costs at 16 connections.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.load import Load, Measured
from benchmarks.row import Row
from benchmarks.served_cnn import METHOD, PATH, bodies, write_cnn
from benchmarks.server_process import ask, ports, process
from clearweight.artifact import Artifact, Manifest, find_artifacts

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
    """Measure both; the second only with data."""
    rounds, seconds = (3, 0.5) if quick else (15, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        artifact = write_cnn(Path(folder) / "models")
        for protocol, (body, headers) in bodies(Path(folder)).items():
            path = METHOD if protocol == "grpc" else PATH
            kind = "grpc" if protocol == "grpc" else "http"
            load = Load(kind, 0, path, str(body), headers, 1, seconds)
            pairs = _in_turn(artifact, {"on": ON, "off": OFF}, load, protocol, rounds)
            ratios = [on.p50_ms / off.p50_ms for on, off in pairs]
            yield Row(BENCH, f"{protocol}/c1", "p50_on_ms", median(on.p50_ms for on, _ in pairs), "ms")
            yield Row(BENCH, f"{protocol}/c1", "p50_off_ms", median(off.p50_ms for _, off in pairs), "ms")
            yield from _spread(f"{protocol}/c1", "p50_on_over_off", ratios)
        if data is not None:
            artifact = find_artifacts(data / "models")[0]
            load = _request(Artifact.open(artifact).manifest, Path(folder) / "shadow", seconds)
            settings: dict[str, dict[str, Any]] = {"on": {"shadow": 0.05}, "off": {"shadow": 0.0}}
            pairs = _in_turn(artifact, settings, load, "rest_json", rounds)
            lost = [1.0 - on.requests_per_second / off.requests_per_second for on, off in pairs]
            yield from _spread("rest_json/c16", "shadow_throughput_loss", lost)


def _in_turn(
    artifact: Path, settings: dict[str, dict[str, Any]], load: Load, protocol: str, rounds: int
) -> list[tuple[Measured, Measured]]:
    found: list[tuple[Measured, Measured]] = []
    with ExitStack() as stack:
        client = stack.enter_context(process(["-m", "benchmarks.load"], 1))
        found_ports = {
            who: ports(stack.enter_context(process(["-c", SERVE, str(artifact), json.dumps(given)], 0)))[
                protocol
            ]
            for who, given in settings.items()
        }
        for index in range(rounds + 1):
            order = ("on", "off") if index % 2 else ("off", "on")
            pair = {who: ask(client, _at(load, found_ports[who])) for who in order}
            if pair["on"].errors or pair["off"].errors:
                raise RuntimeError(f"Errors were answered over {protocol}.")
            if index:  # the first round warms up
                found.append((pair["on"], pair["off"]))
    return found


def _at(load: Load, port: int) -> Load:
    return Load(load.protocol, port, load.path, load.body, load.headers, load.connections, load.seconds)


def _request(manifest: Manifest, file: Path, seconds: float) -> Load:
    inputs = []
    for spec in manifest.inputs:
        shape = [1 if size == -1 else size for size in spec.shape]
        values = np.random.default_rng(0).random(shape, np.float32).ravel().tolist()
        inputs.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": values})
    file.write_text(json.dumps({"inputs": inputs}))
    headers = {"Content-Type": "application/json"}
    return Load("http", 0, f"/v2/models/{manifest.name}/infer", str(file), headers, 16, seconds)


def _spread(case: str, metric: str, values: list[float]) -> Iterator[Row]:
    for suffix, value in (("", median(values)), ("_min", min(values)), ("_max", max(values))):
        yield Row(BENCH, case, metric + suffix, value, "ratio")
