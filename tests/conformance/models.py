"""The models that the suite serves: one that every server can take as an ONNX file, and some that only ours has."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.served_cnn import write_plain
from tests.service import artifacts

MODEL = "tiny"
SHARE = 0.2  # of the weights pruned in the version that serves


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
    one, rows = np.ones(1, np.float32), np.arange(8, dtype=np.float32).reshape(4, 2)
    write_graph(out, "free", _free(), one, width=-1, outputs=1)
    write_graph(out, "brittle", _brittle(), rows, width=1, outputs=2)
    write_graph(out, "slow", _slow(), one, width=1, outputs=1)
    return out


def write_graph(
    out: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    weight: NDArray[np.float32],
    *,
    width: int,
    outputs: int,
) -> Path:
    """Write an artifact without explainers: from ``x`` [N, width] and the weight ``w`` to ``y`` [N, outputs]."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [value("x", TensorProto.FLOAT, ["N", "M" if width == -1 else width])],
        [value("y", TensorProto.FLOAT, ["N", outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    x = np.ones((2, max(width, 1)), np.float32)
    logits = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return write_plain(out, model, {"w": weight}, x, logits)


def _free() -> list[onnx.NodeProto]:
    """Two variable dimensions: the largest of a row of any length."""
    node = helper.make_node
    return [node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=1), node("Mul", ["most", "w"], ["y"])]


def _brittle() -> list[onnx.NodeProto]:
    """Picks a row of the weight, and fails inside the runtime where there is none: for all but 0 to 3."""
    node = helper.make_node
    return [
        node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        node("Gather", ["w", "index"], ["rows"]),
        node("Constant", [], ["middle"], value_ints=[1]),
        node("Squeeze", ["rows", "middle"], ["y"]),
    ]


def _slow() -> list[onnx.NodeProto]:
    """Counts in a loop as far as the largest input says, a microsecond or so for each turn."""
    node, value = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["at", "w"], ["next"])],
        "turn",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("at", TensorProto.FLOAT, ["N", 1]),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, ["N", 1])],
    )
    return [
        node("Constant", [], ["zero"], value_float=0.0),
        node("Constant", [], ["one"], value_int=1),
        node("Cast", ["one"], ["yes"], to=TensorProto.BOOL),
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        node("Mul", ["x", "zero"], ["start"]),
        node("Loop", ["count", "yes", "start"], ["y"], body=body),
    ]
