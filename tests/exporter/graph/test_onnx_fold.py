"""BatchNormalization merged at ONNX level, against ONNX Runtime on the graph as it was."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from clearweight.exporter.graph import canonicalize, session


def numbers(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def normalised(node, weights, source_shape, channels, *, tail=()):
    """One linear map, then BatchNormalization."""
    statistics = {
        "bn.scale": numbers(channels, 1)[:, 0],
        "bn.bias": numbers(channels, 2)[:, 0],
        "bn.mean": numbers(channels, 3)[:, 0],
        "bn.var": np.abs(numbers(channels, 4)[:, 0]) + 0.1,
    }
    norm = helper.make_node(
        "BatchNormalization", ["h", *statistics], ["y" if not tail else "n"], epsilon=0.01
    )
    graph = helper.make_graph(
        [node, norm, *tail],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *source_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in {**weights, **statistics}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model, images):
    return session(model).run(None, {"x": images})[0]


CASES = {
    "conv": (
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["h"]),
        {"conv.weight": numbers(3, 2, 3, 3), "conv.bias": numbers(3)},
        (2, 5, 5),
        3,
    ),
    "conv without bias, grouped": (
        helper.make_node("Conv", ["x", "conv.weight"], ["h"], group=2),
        {"conv.weight": numbers(4, 1, 3)},
        (2, 6),
        4,
    ),
    "transposed, grouped": (
        helper.make_node("ConvTranspose", ["x", "conv.weight"], ["h"], group=2),
        {"conv.weight": numbers(4, 3, 2, 2)},
        (4, 3, 3),
        6,
    ),
    "gemm": (
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["h"]),
        {"fc.weight": numbers(4, 3), "fc.bias": numbers(3)},
        (4,),
        3,
    ),
    "gemm, transposed": (
        helper.make_node("Gemm", ["x", "fc.weight"], ["h"], transB=1),
        {"fc.weight": numbers(3, 4)},
        (4,),
        3,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_producer_is_merged_and_its_weight_keeps_its_name(case):
    node, weights, shape, channels = case
    model = normalised(node, weights, shape, channels)
    images = numbers(5, *shape)

    canonical = canonicalize(model)

    assert [entry.op_type for entry in canonical.graph.node] == [node.op_type]
    root = next(iter(weights)).split(".")[0]
    assert [tensor.name for tensor in canonical.graph.initializer] == [f"{root}.weight", f"{root}.bias"]
    assert np.abs(run(canonical, images) - run(model, images)).max() < 2e-5


def test_a_scaled_gemm_keeps_its_normalisation():
    node = helper.make_node("Gemm", ["x", "w"], ["h"], alpha=0.5)
    model = normalised(node, {"w": numbers(4, 3)}, (4,), 3)
    images = numbers(5, 4)

    canonical = canonicalize(model)

    assert [entry.op_type for entry in canonical.graph.node] == ["Gemm", "BatchNormalization"]
    assert {tensor.name for tensor in canonical.graph.initializer} == {
        "w",
        "bn.scale",
        "bn.bias",
        "bn.mean",
        "bn.var",
    }
    assert np.abs(run(canonical, images) - run(model, images)).max() < 2e-5


def test_a_weight_that_others_read_is_copied():
    node = helper.make_node("Conv", ["x", "w"], ["h"])
    tail = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["h2"]),
        helper.make_node("Add", ["n", "h2"], ["y"]),
    ]
    model = normalised(node, {"w": numbers(2, 1, 3)}, (1, 6), 2, tail=tail)
    images = numbers(5, 1, 6)

    canonical = canonicalize(model)

    assert {tensor.name for tensor in canonical.graph.initializer} == {"w", "w.merged", "w.bias"}
    assert np.abs(run(canonical, images) - run(model, images)).max() < 2e-5


def test_a_producer_with_another_reader_keeps_its_normalisation():
    node = helper.make_node("Conv", ["x", "w"], ["h"])
    model = normalised(
        node, {"w": numbers(2, 1, 3)}, (1, 6), 2, tail=[helper.make_node("Add", ["n", "h"], ["y"])]
    )

    assert "BatchNormalization" in [entry.op_type for entry in canonicalize(model).graph.node]
