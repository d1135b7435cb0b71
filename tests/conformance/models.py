"""The models that the suite serves: one that every server can take as an ONNX file, and some that only ours has."""

import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
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
from tests.service import artifacts

MODEL = "tiny"
SHARE = 0.2  # of the weights pruned in the version that serves
_ELEMENTS = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BOOL": TensorProto.BOOL}


def onnx_file() -> bytes:
    """The tiny network as one ONNX file that holds its parameters, for servers that take nothing else."""
    net = artifacts.pruned(artifacts.network(), SHARE)
    model = onnx.load_from_string(artifacts.predict_graph(net))
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in net.parameters.items()
    )
    return model.SerializeToString()


def write_models(out: Path) -> Path:
    """Write the repository that our own server serves under test."""
    artifacts.write(out, name=MODEL, version="9", share=0.1)
    artifacts.write(out, name=MODEL, version="10", share=SHARE)
    node = helper.make_node
    # Two inputs, two outputs.
    pair = [node("Add", ["a", "b"], ["sum"]), node("Sub", ["a", "b"], ["difference"])]
    write_graph(
        out,
        "pair",
        pair,
        {"a": ("FP32", 3), "b": ("FP32", 3)},
        {"sum": ("FP32", 3), "difference": ("FP32", 3)},
    )
    # Two variable dimensions.
    free = [node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=1)]
    write_graph(out, "free", free, {"x": ("FP32", -1)}, {"y": ("FP32", 1)})
    # Booleans, whose bytes may be 0 or 1.
    write_graph(
        out,
        "switch",
        [node("Cast", ["on"], ["y"], to=TensorProto.FLOAT)],
        {"on": ("BOOL", 2)},
        {"y": ("FP32", 2)},
    )
    # Fails inside the runtime for any index but 0 to 3.
    brittle = [
        node("Gather", ["w", "index"], ["rows"]),
        node("ReduceSum", ["rows", "last"], ["y"], keepdims=0),
    ]
    write_graph(
        out,
        "brittle",
        [node("Constant", [], ["last"], value_ints=[1]), *brittle],
        {"index": ("INT64", 1)},
        {"y": ("FP32", 2)},
    )
    write_graph(out, "slow", _slow(), {"turns": ("FP32", 1)}, {"y": ("FP32", 1)})
    return out


def write_graph(
    out: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[str, int]],
    outputs: dict[str, tuple[str, int]],
) -> Path:
    """Write an artifact without explainers or canaries: (datatype, second dimension) by name; `w` is 4 x 2."""
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    given, returned = (
        [
            helper.make_tensor_value_info(key, _ELEMENTS[kind], ["N", "M" if size == -1 else size])
            for key, (kind, size) in tensors.items()
        ]
        for tensors in (inputs, outputs)
    )
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=weight.shape)
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="weights.cwt")
    graph = helper.make_graph(nodes, name, given, returned, [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    weights = io.BytesIO()
    report = write_weights(weights, [CodedTensor("w", weight)])
    none = np.zeros((0,), np.float16)
    logits = np.zeros((0, max(1, next(iter(outputs.values()))[1])), np.float32)
    canary = Canary(np.zeros((0, 1), np.float32), np.zeros(0, np.int64), logits, logits, none, none)
    quality = Quality(None, None, None)
    specs = [
        tuple(TensorSpec(key, kind, (-1, size)) for key, (kind, size) in tensors.items())
        for tensors in (inputs, outputs)
    ]
    manifest = Manifest(
        name=name,
        version="1",
        variant="compressed",
        inputs=specs[0],
        outputs=specs[1],
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
        canaries=Canaries("synthetic", 0),
        splits={"calibration": hashlib.sha256(b"none").hexdigest()},
        environment={},
    )
    contents = {
        "predict.onnx": model.SerializeToString(),
        "weights.cwt": weights.getvalue(),
        "canaries.safetensors": canary.to_bytes(),
    }
    return write_artifact(out, manifest, contents)


def _slow() -> list[onnx.NodeProto]:
    """Count in a loop as often as the largest input says: about a microsecond a turn."""
    node, value = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["at", "one"], ["next"])],
        "turn",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("at", TensorProto.FLOAT, ["N", 1]),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, ["N", 1])],
    )
    return [
        node("Constant", [], ["one"], value_float=1.0),
        node("Constant", [], ["zero"], value_float=0.0),
        node("Constant", [], ["yes_i"], value_int=1),
        node("Cast", ["yes_i"], ["yes"], to=TensorProto.BOOL),
        node("ReduceMax", ["turns"], ["most"], keepdims=0),
        node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        node("Mul", ["turns", "zero"], ["start"]),
        node("Loop", ["count", "yes", "start"], ["y"], body=body),
    ]
