"""How long a model's graphs take in ONNX Runtime alone, in a process that can be pinned to the servers' core.

``python -m benchmarks.ort_time ARTIFACT`` answers each line on standard input, a number of seconds, with one JSON
object: the median time of a run in milliseconds, of ``predict`` and of ``explain``, the default explainer.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from clearweight.artifact import Artifact
from clearweight.service.core.session import Session
from clearweight.service.core.weights import OwnWeights


def main() -> None:
    """Run as long as is asked for, line by line."""
    artifact = Artifact.open(Path(sys.argv[1]))
    (source,) = artifact.manifest.inputs
    x = np.random.default_rng(2).standard_normal((1, *source.shape[1:])).astype(np.float32)
    chosen = artifact.manifest.default_explainer
    assert chosen is not None
    files = {"predict": "predict.onnx", "explain": artifact.manifest.explainers[chosen].file}
    feeds = {"predict": {source.name: x}, "explain": {source.name: x, "target": np.full(1, -1, np.int64)}}
    weights = OwnWeights(artifact.weights)
    sessions = {verb: Session(artifact.graph(file), weights, threads=1) for verb, file in files.items()}
    for line in sys.stdin:
        times: dict[str, list[float]] = {verb: [] for verb in sessions}
        end = time.perf_counter() + float(line)
        while time.perf_counter() < end:
            for verb, session in sessions.items():
                start = time.perf_counter()
                session.run(feeds[verb])
                times[verb].append(time.perf_counter() - start)
        print(json.dumps({verb: 1e3 * float(np.median(taken)) for verb, taken in times.items()}), flush=True)


if __name__ == "__main__":
    main()
