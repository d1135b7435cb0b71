"""Classifiers as ONNX files that were never in torch, sound and strange."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2, 6, 6)
CLASSES = 3
_RNG = np.random.default_rng(7)
WEIGHTS = {
    "w": _RNG.standard_normal((4, 2, 3, 3)).astype(np.float32) / 3,
    "b": _RNG.standard_normal(4).astype(np.float32) / 4,
    "v": _RNG.standard_normal((CLASSES, 64)).astype(np.float32) / 4,
    "c": _RNG.standard_normal(CLASSES).astype(np.float32),
}
LAYERS = [
    helper.make_node("Conv", ["x", "w", "b"], ["features"], "conv"),
    helper.make_node("Relu", ["features"], ["active"], "relu"),
    helper.make_node("Flatten", ["active"], ["flat"], "flatten"),
    helper.make_node("Gemm", ["flat", "v", "c"], ["logits"], "head", transB=1),
]


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


INPUTS = (value("x", ["batch", *SHAPE]),)
OUTPUTS = (value("logits", ["batch", CLASSES]),)


def model(
    nodes=LAYERS,
    inputs=INPUTS,
    outputs=OUTPUTS,
    weights=WEIGHTS,
    *,
    opset=17,
    ir_version=8,
    more_opsets=(),
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        outputs,
        [numpy_helper.from_array(values, name) for name, values in weights.items() if name in used],
    )
    opsets = [helper.make_opsetid("", opset), *more_opsets]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def write(path: Path, made: onnx.ModelProto) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def logits(x):
    """The sound network in numpy, float64."""
    w, b, v, c = (WEIGHTS[name].astype(np.float64) for name in "wbvc")
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    hidden = np.einsum("nchwij,kcij->nkhw", windows, w) + b[:, None, None]
    return np.maximum(hidden, 0).reshape(len(x), -1) @ v.T + c


def slope(x, target, step=1e-5):
    """The gradient of one logit per row by central differences of `logits`, one input element after the other."""
    found = np.zeros(x.shape)
    for place in np.ndindex(*x.shape[1:]):
        moved = np.zeros(x.shape)
        moved[(slice(None), *place)] = step
        up, down = logits(x + moved), logits(x - moved)
        found[(slice(None), *place)] = ((up - down) / (2 * step))[np.arange(len(x)), target]
    return found


def recurrent() -> onnx.ModelProto:
    """Two GRUs one behind the other: no gradient, and two reasons."""
    sizes = {"g": (5, 4), "h": (4, 4)}
    weights, nodes, at = {}, [helper.make_node("Transpose", ["x"], ["in_g"], "order", perm=[1, 0, 2])], "in_g"
    for name, (width, state) in sizes.items():
        weights[f"{name}.w"] = _RNG.standard_normal((1, 3 * state, width)).astype(np.float32)
        weights[f"{name}.r"] = _RNG.standard_normal((1, 3 * state, state)).astype(np.float32)
        nodes += [
            helper.make_node(
                "GRU", [at, f"{name}.w", f"{name}.r"], [f"all_{name}"], f"gru_{name}", hidden_size=state
            ),
            helper.make_node("Squeeze", [f"all_{name}", "one"], [f"out_{name}"], f"squeeze_{name}"),
        ]
        at = f"out_{name}"
    nodes += [
        helper.make_node("ReduceMean", [at], ["mean"], "mean", axes=[0], keepdims=0),
        helper.make_node("Gemm", ["mean", "v"], ["logits"], "head"),
    ]
    weights["v"] = _RNG.standard_normal((4, CLASSES)).astype(np.float32)
    weights["one"] = np.array([1])
    return model(nodes, (value("x", ["batch", 7, 5]),), weights=weights)


def with_tail(kind: str, *, sharp: float = 1.0) -> onnx.ModelProto:
    """The sound network with a Softmax or Sigmoid behind its logits; `sharp` makes it more certain."""
    weights = WEIGHTS | {"v": WEIGHTS["v"] * np.float32(sharp), "c": WEIGHTS["c"] * np.float32(sharp)}
    attributes = {} if kind == "Sigmoid" else {"axis": 1}
    tail = helper.make_node(kind, ["logits"], ["p"], "tail", **attributes)
    return model([*LAYERS, tail], outputs=(value("p", ["batch", CLASSES]),), weights=weights)


def custom() -> onnx.ModelProto:
    """An operator of somebody's own."""
    nodes = [
        *LAYERS[:1],
        helper.make_node("Bend", ["features"], ["active"], "bend", domain="my.ops"),
        *LAYERS[2:],
    ]
    return model(nodes, more_opsets=[helper.make_opsetid("my.ops", 1)])


def two_inputs() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["a", "x2"], ["x"], "add"), *LAYERS]
    return model(nodes, (value("a", ["batch", *SHAPE]), value("x2", ["batch", *SHAPE])))


def detector() -> onnx.ModelProto:
    """Boxes first, classes second."""
    return model(outputs=(value("features", ["batch", 4, 4, 4]), value("logits", ["batch", CLASSES])))


def two_outputs() -> onnx.ModelProto:
    """Logits, and a feature map for those who want it."""
    return model(outputs=(value("logits", ["batch", CLASSES]), value("features", ["batch", 4, 4, 4])))


def half() -> onnx.ModelProto:
    """The sound network in float16, input and output too."""
    kind = TensorProto.FLOAT16
    weights = {name: values.astype(np.float16) for name, values in WEIGHTS.items()}
    return model(
        inputs=(value("x", ["batch", *SHAPE], kind),),
        outputs=(value("logits", ["batch", CLASSES], kind),),
        weights=weights,
    )


def segmentation() -> onnx.ModelProto:
    return model(LAYERS[:2], outputs=(value("active", ["batch", 4, 4, 4]),))


def flat_logits() -> onnx.ModelProto:
    nodes = [*LAYERS, helper.make_node("ReduceMax", ["logits"], ["best"], "best", axes=[1], keepdims=0)]
    return model(nodes, outputs=(value("best", ["batch"]),))


def fixed_batch() -> onnx.ModelProto:
    nodes = [*LAYERS[:2], helper.make_node("Reshape", ["active", "one_row"], ["flat"], "flatten"), LAYERS[3]]
    shape = {"one_row": np.array([1, 64])}
    return model(nodes, (value("x", [1, *SHAPE]),), (value("logits", [1, CLASSES]),), WEIGHTS | shape)


def token_input() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["words"], "embedding"),
        helper.make_node("ReduceMean", ["words"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "v"], ["logits"], "head"),
    ]
    weights = {"table": np.ones((9, 4), np.float32), "v": np.ones((4, CLASSES), np.float32)}
    return model(nodes, (value("x", ["batch", 5], TensorProto.INT64),), weights=weights)


def stopped() -> onnx.ModelProto:
    nodes = [helper.make_node("Round", ["x"], ["whole"], "round")]
    nodes += [helper.make_node("Conv", ["whole", "w", "b"], ["features"], "conv"), *LAYERS[1:]]
    return model(nodes)


STRANGE = {
    "two_inputs": two_inputs,
    "detector": detector,
    "segmentation": segmentation,
    "flat_logits": flat_logits,
    "fixed_batch": fixed_batch,
    "token_input": token_input,
    "custom": custom,
}
