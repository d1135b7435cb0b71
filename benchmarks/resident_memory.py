"""What open sessions keep in memory, in a process of its own: ``python -m benchmarks.resident_memory``.

Prints bytes per session, once for each of REPEATS: by how much the process's resident memory rises while COUNT more
sessions are opened and run, over COUNT; one before them warms the process up, and all stay open. What the allocator
merely kept is given back before each look. The runtime's memory arena is off, because it never gives back the room that
one layer once needed.

``FILE COUNT REPEATS`` opens a self-contained file on stock ONNX Runtime; ``FOLDER COUNT REPEATS`` opens
``predict.onnx`` and ``explain.onnx`` over ``weights.cwt`` as the service does in its memory-saving mode.
"""

import ctypes
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def resident_per_session(path: Path, count: int, repeats: int) -> float:
    """Measure a model file, or a folder of graphs over packed weights, in a fresh process; median bytes."""
    command = [sys.executable, "-m", "benchmarks.resident_memory", str(path), str(count), str(repeats)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return statistics.median(map(int, found.split()))


def _resident() -> int:
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _alone(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    running = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = running.get_inputs()
    row = np.random.default_rng(0).random((1, *source.shape[1:]), np.float32)
    for _ in range(2):
        running.run(None, {source.name: row})
    return running


def _served(folder: Path) -> Any:
    import onnx

    from clearweight.artifact import WeightsReader
    from clearweight.service.core.session import Session
    from clearweight.service.core.weights import SharedWeights

    source = onnx.load(folder / "predict.onnx", load_external_data=False).graph.input[0]
    shape = [dim.dim_value for dim in source.type.tensor_type.shape.dim[1:]]
    feed: dict[str, Any] = {source.name: np.random.default_rng(0).random((1, *shape), np.float32)}
    weights = SharedWeights(lambda: WeightsReader(folder / "weights.cwt"))
    sessions = [
        Session((folder / f"{name}.onnx").read_bytes(), weights, 1) for name in ("predict", "explain")
    ]
    for running, further in zip(sessions, ({}, {"target": np.array([-1])}), strict=True):
        for _ in range(2):
            running.run(feed | further)
    return sessions


def _main() -> None:
    path, count, repeats = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    start = _served if path.is_dir() else _alone
    kept = [start(path)]
    for _ in range(repeats):
        before = _resident()
        kept += [start(path) for _ in range(count)]
        print((_resident() - before) // count)


if __name__ == "__main__":
    _main()
