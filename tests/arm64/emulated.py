"""Runs inside the emulated root: answer every case, then open the artifact as a device would.

Usage: emulated.py FOLDER. Cases are ``NAME.onnx`` with ``NAME.inputs.npz``; the answers go to ``NAME.answers.npz``.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from clearweight.service import Engine


def main(folder: Path) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for path in sorted(folder.glob("*.onnx")):
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        with np.load(path.with_suffix(".inputs.npz")) as inputs:
            answers = session.run(None, dict(inputs))
        np.savez(path.with_suffix(".answers.npz"), **dict(zip(names, answers, strict=True)))
    with np.load(folder / "engine.inputs.npz") as inputs, Engine(folder / "models") as engine:
        answer = engine.explain(inputs["x"])
        np.savez(folder / "engine.answers.npz", map=answer.map, logits=answer.logits)
        (name,) = engine.repository.names
        health = engine.health(name)
    report = {
        "machine": platform.machine(),
        "onnxruntime": ort.__version__,
        "integrity": health.integrity.state,
        "logits_error": health.integrity.logits_error,
        "map_cosine": health.integrity.map_cosine,
    }
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
