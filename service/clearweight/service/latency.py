"""What predict and explain cost on this machine: each measured in a process of its own, as a device would run it."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from clearweight.artifact import Artifact
from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import LoadError
from clearweight.service.core.options import EngineOptions

PREDICT = "predict"
LEAST_RUNS = 20


@dataclass(frozen=True)
class Workload:
    """What one process measures.

    Attributes
    ----------
    directory : one artifact
    method : explainer, or ``predict``
    fixed_batch : plan the sessions for ``batch`` rows alone
    batch, threads : rows per call, ONNX Runtime threads
    seconds : how long to call; at least 20 calls are made
    """

    directory: str
    method: str
    batch: int
    threads: int
    seconds: float
    fixed_batch: bool = False


@dataclass(frozen=True)
class Latency:
    """Cost of one workload.

    Attributes
    ----------
    p50_ms, p99_ms : of one call in process, input checks included
    runs : calls behind these
    start_s : from the start of the process to its first answer: interpreter, imports, decoding, session
    rss_mb, peak_mb : resident memory after the runs, and the most there was, whole process, in 10^6 bytes
    """

    method: str
    batch: int
    threads: int
    p50_ms: float
    p99_ms: float
    runs: int
    start_s: float
    rss_mb: float
    peak_mb: float


def measure(workload: Workload) -> Latency:
    """Measure a workload in a fresh process.

    Raises
    ------
    LoadError
        The process failed; the message is its own.
    """
    command = [sys.executable, "-m", __name__, json.dumps(asdict(workload)), repr(time.time())]
    # Standard error is the workload's: a model's failure is reported there in one line.
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own module
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise LoadError(f"Measuring {workload.method!r} failed: {last[0]}")
    return Latency(**json.loads(done.stdout))


def machine() -> dict[str, str | int]:
    """Return what a latency means nothing without."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return named[0] if named else platform.processor()


def _run(workload: Workload, spawned: float) -> Latency:
    options = EngineOptions(
        threads=workload.threads,
        fixed_batch=workload.batch if workload.fixed_batch else 0,
        low_fidelity="annotate",
    )
    with Engine(workload.directory, options) as engine:
        x = _probes(Path(workload.directory), workload.batch)

        def call() -> object:
            if workload.method == PREDICT:
                return engine.predict(x)
            return engine.explain(x, method=workload.method)

        call()
        start = time.time() - spawned
        times = _timed(call, workload.seconds)
    return Latency(
        method=workload.method,
        batch=workload.batch,
        threads=workload.threads,
        p50_ms=float(np.quantile(times, 0.5)) * 1e3,
        p99_ms=float(np.quantile(times, 0.99)) * 1e3,
        runs=len(times),
        start_s=start,
        rss_mb=_resident() / 1e6,
        peak_mb=_peak() / 1e6,
    )


def _timed(call: Any, seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _probes(directory: Path, rows: int) -> NDArray[Any]:
    """Return the artifact's own probe inputs, repeated to fill the batch."""
    artifact = Artifact.open(directory, verify=False)
    inputs = artifact.canaries().inputs
    if not len(inputs):
        shape, kind = artifact.manifest.inputs[0].shape, artifact.manifest.preprocessing.raw_datatype
        drawn = np.random.default_rng(0).random((rows, *(abs(size) for size in shape[1:])), np.float32)
        return drawn if kind.startswith("FP") else (drawn * 100).astype(kind.lower())
    return np.ascontiguousarray(np.resize(inputs, (rows, *inputs.shape[1:])))


def _status(key: str) -> int | None:
    """Read a size from Linux's account of this process, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def _peak() -> int:
    # Where there is no /proc: macOS counts bytes.
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _resident() -> int:
    return _status("VmRSS") or _peak()


if __name__ == "__main__":
    try:
        found = _run(Workload(**json.loads(sys.argv[1])), float(sys.argv[2]))
    except Exception as error:  # noqa: BLE001  # one line for the parent, whatever it was
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(json.dumps(asdict(found)))
