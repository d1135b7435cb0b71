"""Explain graphs on 64-bit ARM, under emulation: other kernels, the same maps. Correctness only, never timing.

``make test-arm64`` prepares the root (root rights, debootstrap, qemu-user-static) and runs this.
"""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from clearweight.artifact import explain_inputs
from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, build
from clearweight.exporter.graph import int8_onnx, session, to_onnx
from tests.exporter.explain.networks import MODULES, build_network

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "build" / "arm64" / "root"
QEMU = "/usr/bin/qemu-aarch64-static"

pytestmark = [
    pytest.mark.arm64,
    pytest.mark.skipif(
        not (IMAGE / ".ready").exists() or os.geteuid() != 0,
        reason="no ARM root in build/arm64: run make test-arm64 as root",
    ),
]


def cases():
    """Yield (name, graph, inputs): every explainer on every small network, and one network as int8."""
    for name in MODULES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecations
            network = build_network(name, to_onnx)
        source = network.model.graph.input[0].name
        x = network.samples(3)
        for method in EXPLAINERS:
            try:
                graph = build(network.model, method)
            except NotApplicableError:
                continue
            steps = min(graph.steps, 8)
            extra = explain_inputs(graph.inputs, x.shape, steps=steps, seed=1, settings=graph.settings)
            target = np.array([-1, 0, 1], np.int64)
            yield f"{name}.{method}", graph.model, {source: x, "target": target, **extra}
        if name == "cnn":
            yield "cnn.int8", int8_onnx(network.model, network.samples(16, seed=1)), {source: x}


@pytest.fixture(scope="module")
def answered(exported, tmp_path_factory):
    """Run all cases here and there; returns name -> (own answers, answers on ARM), and the engine's report."""
    folder = IMAGE / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    expected = {}
    for name, model, inputs in cases():
        onnx.save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.inputs.npz", **inputs)
        running = session(model)
        names = [output.name for output in running.get_outputs()]
        expected[name] = dict(zip(names, running.run(None, inputs), strict=True))
    shutil.copytree(exported.path, folder / "models" / "digits" / "1")
    probes = np.asarray(exported.prepared.splits.validation.inputs[:4])
    np.savez(folder / "engine.inputs.npz", x=probes)
    for part in ("artifact", "service"):
        shutil.copytree(ROOT / part / "clearweight", IMAGE / "site" / "clearweight", dirs_exist_ok=True)
    shutil.copy(Path(__file__).with_name("emulated.py"), IMAGE / "emulated.py")
    subprocess.run(
        ["/usr/sbin/chroot", IMAGE, QEMU, "/usr/bin/python3.11", "/emulated.py", "/work"],
        check=True,
        timeout=600,
        env={"PYTHONPATH": "/site", "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"},
        stdout=sys.stderr,
    )
    there = {name: dict(np.load(folder / f"{name}.answers.npz")) for name in (*expected, "engine")}
    return expected, there, json.loads((folder / "report.json").read_text())


def test_the_emulated_machine_is_another_processor(answered):
    report = answered[2]

    assert report["machine"] == "aarch64"


def test_every_explain_graph_gives_the_same_answers(answered):
    expected, there, _ = answered
    assert {name.rpartition(".")[2] for name in expected} >= {
        "gradient",
        "input_x_gradient",
        "gradcam",
        "int8",
    }

    wrong = []
    for name, answers in expected.items():
        for output, own in answers.items():
            other = there[name][output]
            assert other.shape == own.shape
            # What completeness misses is rounding alone, so it has no scale of its own.
            scale = 1.0 if output == "completeness_error" else max(float(np.abs(own).max()), 1e-6)
            error = float(np.quantile(np.abs(other - own), 0.999)) / scale
            # An int8 graph may round one activation the other way: one quantum, 1/255 of the range.
            if not error <= (2e-2 if name.endswith("int8") else 1e-3):
                wrong.append((name, output, error))
    assert not wrong


def test_a_device_opens_the_artifact_and_passes_its_own_integrity_test(answered, exported):
    _, there, report = answered
    from clearweight.service import Engine

    with Engine(exported.path) as engine:
        own = engine.explain(np.asarray(exported.prepared.splits.validation.inputs[:4]))

    assert report["integrity"] == "passed"
    np.testing.assert_allclose(there["engine"]["logits"], own.logits, rtol=1e-3, atol=1e-4)
    flat = [m.reshape(4, -1) for m in (there["engine"]["map"], own.map)]
    cosine = (flat[0] * flat[1]).sum(1) / np.linalg.norm(flat[0], axis=1) / np.linalg.norm(flat[1], axis=1)
    assert cosine.min() > 0.9999
