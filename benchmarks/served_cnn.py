"""The model that the service benchmarks serve, as an artifact, and one request for it per protocol.

A small CNN (three convolutions, 97 kB), the one that serving frameworks were compared with before.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import orjson
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

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

PATH = "/v2/models/cnn/infer"
EXPLAIN_PATH = "/v2/models/cnn/explain"
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def compressed(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep one weight in ten, the largest, in sixteen shared values."""
    kept = np.abs(weight) >= np.quantile(np.abs(weight[..., :1, :1]), 0.9)
    step = np.abs(weight).max() / 8
    return np.where(kept, np.round(weight / step) * step, 0.0)


def network(
    width: int = 16, seed: int = 0, *, compress: bool = False
) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:
    """Build the CNN: three 3x3 convolutions with ReLU, global average, one matrix to ten classes.

    ``width`` is the number of channels after the first convolution; the others have twice and four times as many.
    """
    rng = np.random.default_rng(seed)
    parameters: dict[str, np.ndarray[Any, Any]] = {}
    nodes, value = [], "x"
    shapes = ((3, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2))
    for index, (channels, wider, stride) in enumerate(shapes):
        weight = rng.standard_normal((wider, channels, 3, 3)) / np.sqrt(9 * channels)
        weight = compressed(weight) if compress else weight
        parameters[f"conv{index}.weight"] = weight.astype(np.float32)
        parameters[f"conv{index}.bias"] = np.zeros(wider, np.float32)
        inputs = [value, f"conv{index}.weight", f"conv{index}.bias"]
        nodes.append(
            helper.make_node("Conv", inputs, [f"c{index}"], pads=[1, 1, 1, 1], strides=[stride, stride])
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    parameters["head.weight"] = (rng.standard_normal((4 * width, 10)) / 8).astype(np.float32)
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


def write_cnn(out: Path, width: int = 16, *, compress: bool = False) -> Path:
    """Put the CNN into an artifact."""
    model, parameters = network(width, compress=compress)
    canaries = np.random.default_rng(1).random((4, 3, 32, 32), dtype=np.float32)
    (logits,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": canaries})
    return write_plain(out, model, parameters, canaries, logits)


def write_explained(out: Path) -> Path:
    """Put the CNN into an artifact as ``clearweight export`` does: explained, with its reference and drift null."""
    from clearweight.exporter.own_model import prepare
    from clearweight.exporter.post_training.artifact import Order, export_onnx

    inputs = np.random.default_rng(3).random((800, 3, 32, 32), dtype=np.float32)
    order = Order("cnn", methods=("input_x_gradient",))
    return export_onnx(prepare(network()[0]), inputs, order, out).path


def write_plain(
    out: Path,
    model: onnx.ModelProto,
    parameters: Mapping[str, NDArray[np.float32]],
    canaries: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> Path:
    """Write a model of one input and one output as an artifact without explainers, named after its graph.

    Parameters
    ----------
    model : its initializers are ``parameters``; they are made external
    canaries, logits : probes and what the model answers to them
    """
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
        name=model.graph.name,
        version="1",
        variant="compressed",
        inputs=(_spec(model.graph.input[0]),),
        outputs=(_spec(model.graph.output[0]),),
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


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    sizes = (-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return TensorSpec(value.name, "FP32", tuple(sizes))


Bodies = dict[str, tuple[Path, dict[str, str]]]
"""Protocol -> where its request lies, and the headers that go with it."""


def bodies(folder: Path, *, explain: bool = False) -> Bodies:
    """Write one request per protocol.

    ``explain`` asks for an explanation where the path does not say so.
    """
    x = np.random.default_rng(2).standard_normal((1, 3, 32, 32)).astype(np.float32)
    found = {}
    for protocol, (body, headers) in requests(x, explain=explain).items():
        path = folder / f"{protocol}_explain" if explain else folder / protocol
        path.write_bytes(body)
        found[protocol] = (path, headers)
    return found


def varied_bodies(folder: Path, count: int = 64) -> Bodies:
    """Write a folder of requests per protocol, their inputs drawn like the calibration's of ``write_explained``."""
    found = {}
    for index, x in enumerate(np.random.default_rng(4).random((count, 1, 3, 32, 32), dtype=np.float32)):
        for protocol, (body, headers) in requests(x).items():
            within = folder / f"{protocol}_varied"
            within.mkdir(exist_ok=True)
            (within / f"{index:03}").write_bytes(body)
            found[protocol] = (within, headers)
    return found


def requests(x: NDArray[np.float32], *, explain: bool = False) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Ask about one input in every protocol; returns body and headers."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    text = orjson.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]})
    entry = {**tensor, "parameters": {"binary_data_size": x.nbytes}}
    head = orjson.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}})
    message = oip.ModelInferRequest(model_name="cnn", raw_input_contents=[x.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    if explain:
        message.parameters["explain"].bool_param = True
    return {
        "rest_json": (text, {"Content-Type": "application/json"}),
        "rest_binary": (
            head + x.tobytes(),
            {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))},
        ),
        "grpc": (message.SerializeToString(), {}),
    }
