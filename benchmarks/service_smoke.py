"""Requests per second of the service over those of bare handlers on the same session.

A small CNN (three convolutions, 97 kB), server and load generator pinned to one core each, short rounds of ours and
the floor in turn, medians. ``over_floor`` is our requests per second divided by the floor's.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import orjson
from onnx import TensorProto, helper, numpy_helper

from benchmarks.load import Load, Measured
from benchmarks.row import Row
from clearweight.artifact import (
    Canaries,
    Canary,
    CodedTensor,
    IntegrityLimit,
    Manifest,
    Preprocessing,
    Quality,
    TensorSpec,
    write_artifact,
    write_weights,
)
from clearweight.service.rpc.generated import open_inference_pb2 as oip

BENCH = "service_smoke"
CONNECTIONS = (1, 16)
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SERVE = (
    "import sys; from clearweight.service.serve import serve; from clearweight.service.settings import Settings; "
    "serve(Settings(models=sys.argv[1], http_port=0, grpc_port=0))"
)


def network(seed: int = 0) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:
    """Build the CNN: three 3x3 convolutions with ReLU, global average, one matrix to ten classes."""
    rng = np.random.default_rng(seed)
    parameters: dict[str, np.ndarray[Any, Any]] = {}
    nodes, value = [], "x"
    for index, (channels, wider, stride) in enumerate(((3, 16, 1), (16, 32, 2), (32, 64, 2))):
        weight = rng.standard_normal((wider, channels, 3, 3)) / np.sqrt(9 * channels)
        parameters[f"conv{index}.weight"] = weight.astype(np.float32)
        parameters[f"conv{index}.bias"] = np.zeros(wider, np.float32)
        inputs = [value, f"conv{index}.weight", f"conv{index}.bias"]
        nodes.append(
            helper.make_node("Conv", inputs, [f"c{index}"], pads=[1, 1, 1, 1], strides=[stride, stride])
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    parameters["head.weight"] = (rng.standard_normal((64, 10)) / 8).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head.weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(values, name) for name, values in parameters.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), parameters


def write_cnn(out: Path) -> Path:
    """Put the CNN into an artifact."""
    model, parameters = network()
    canaries = np.random.default_rng(1).random((4, 3, 32, 32), dtype=np.float32)
    (logits,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": canaries})
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.cwt")
    weights = io.BytesIO()
    report = write_weights(weights, [CodedTensor(name, values) for name, values in parameters.items()])
    none = np.zeros(len(canaries), np.float16)
    canary = Canary(canaries, logits.argmax(axis=1).astype(np.int64), logits, logits, none, none)
    quality = Quality(None, None, None)
    manifest = Manifest(
        name="cnn",
        version="1",
        variant="compressed",
        inputs=(TensorSpec("x", "FP32", (-1, 3, 32, 32)),),
        outputs=(TensorSpec("y", "FP32", (-1, 10)),),
        labels=(),
        preprocessing=Preprocessing(),
        ledger=report.ledger(),
        reference_quality=quality,
        compressed_quality=quality,
        explainers={},
        default_explainer=None,
        fidelity=None,
        integrity=IntegrityLimit(1e-4, 0.0, 1.0),
        drift=None,
        canaries=Canaries("synthetic", len(canaries)),
        splits={},
        environment={},
    )
    contents = {
        "predict.onnx": model.SerializeToString(),
        "weights.cwt": weights.getvalue(),
        "canaries.safetensors": canary.to_bytes(),
    }
    return write_artifact(out, manifest, contents)


def bodies(folder: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Write one request per protocol; returns body file and headers."""
    x = np.random.default_rng(2).standard_normal((1, 3, 32, 32)).astype(np.float32)
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    text = orjson.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]})
    asked = [{"name": "y", "parameters": {"binary_data": True}}]
    entry = {**tensor, "parameters": {"binary_data_size": x.nbytes}}
    head = orjson.dumps({"inputs": [entry], "outputs": asked})
    message = oip.ModelInferRequest(model_name="cnn", raw_input_contents=[x.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    written = {
        "rest_json": (text, {"Content-Type": "application/json"}),
        "rest_binary": (
            head + x.tobytes(),
            {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))},
        ),
        "grpc": (message.SerializeToString(), {}),
    }
    found = {}
    for name, (body, headers) in written.items():
        path = folder / name
        path.write_bytes(body)
        found[name] = (path, headers)
    return found


def _pin(core: int) -> Callable[[], None] | None:
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {core})


@contextmanager
def _process(arguments: list[str], core: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=_pin(core)) as process:  # noqa: PLW1509  # this process has one thread
        try:
            yield process
        finally:
            process.terminate()


def _ask(process: subprocess.Popen[str], load: Load) -> Measured:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(load)) + "\n")
    process.stdin.flush()
    return Measured(**json.loads(process.stdout.readline()))


def _ports(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    return {"grpc": found["grpc_port"], "rest_json": found["http_port"], "rest_binary": found["http_port"]}


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure every protocol at one and sixteen connections."""
    del data
    rounds, seconds = (3, 0.5) if quick else (7, 1.0)
    ours_paths = {"rest_json": "/v2/models/cnn/infer", "rest_binary": "/v2/models/cnn/infer", "grpc": METHOD}
    floor_paths = {"rest_json": "/json", "rest_binary": "/binary", "grpc": METHOD}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        artifact = write_cnn(folder / "models")
        ours = stack.enter_context(_process(["-c", SERVE, str(artifact)], 0))
        floor = stack.enter_context(_process(["-m", "benchmarks.bare_server", str(artifact)], 0))
        client = stack.enter_context(_process(["-m", "benchmarks.load"], 1))
        servers = {"ours": (_ports(ours), ours_paths), "floor": (_ports(floor), floor_paths)}
        for protocol, (body, headers) in bodies(folder).items():
            for connections in CONNECTIONS:
                measured: dict[str, list[Measured]] = {"ours": [], "floor": []}
                for index in range(rounds + 1):
                    for who, (ports, paths) in servers.items():
                        kind = "grpc" if protocol == "grpc" else "http"
                        path, port = paths[protocol], ports[protocol]
                        load = Load(kind, port, path, str(body), headers, connections, seconds)
                        found = _ask(client, load)
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
