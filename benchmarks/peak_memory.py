"""How much memory one graph needs to load and run, in a process of its own: ``python -m benchmarks.peak_memory``.

Prints the rise of the process's peak in bytes, from after the imports to after the runs. Read from ``/proc`` (Linux):
``getrusage`` carries the parent's peak over into the child.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

_RUNS = 3


def peak_increment(model: Path, shape: tuple[int, ...]) -> int:
    """Measure a model file on inputs of this shape in a fresh process; bytes."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", str(model), *map(str, shape)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak() -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _main() -> None:
    import onnxruntime as ort

    path, *shape = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    x = np.random.default_rng(0).random([int(size) for size in shape], np.float32)
    before = _peak()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x}
    if len(session.get_inputs()) > 1:
        feeds["target"] = np.full(len(x), -1)
    for _ in range(_RUNS):
        session.run(None, feeds)
    print(_peak() - before)


if __name__ == "__main__":
    _main()
