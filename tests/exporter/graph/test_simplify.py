"""What does nothing at inference is taken out; what does something stays."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from clearweight.exporter.graph import canonicalize, session
from clearweight.exporter.graph.simplify import PASS_THROUGH

FALSE = onnx.numpy_helper.from_array(np.array(False))
TRUE = onnx.numpy_helper.from_array(np.array(True))
HALF = onnx.numpy_helper.from_array(np.array(0.5, np.float32))


def canonical_with(*middle, constants=()):
    """x -> Relu -> r -> middle -> m -> Exp -> y."""
    nodes = [
        *(helper.make_node("Constant", [], [name], value=value) for name, value in constants),
        helper.make_node("Relu", ["x"], ["r"]),
        *middle,
        helper.make_node("Exp", ["m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"])],
    )
    return canonicalize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def operators(model):
    return [node.op_type for node in model.graph.node if node.op_type != "Constant"]


NOTHING = {
    "Identity": (helper.make_node("Identity", ["r"], ["m"]), ()),
    "Dropout": (helper.make_node("Dropout", ["r"], ["m"]), ()),
    "Dropout, mode given": (
        helper.make_node("Dropout", ["r", "ratio", "mode"], ["m"]),
        (("ratio", HALF), ("mode", FALSE)),
    ),
    "Cast": (helper.make_node("Cast", ["r"], ["m"], to=TensorProto.FLOAT), ()),
    "Pad": (
        helper.make_node("Pad", ["r", "pads"], ["m"]),
        (("pads", onnx.numpy_helper.from_array(np.zeros(4, np.int64))),),
    ),
    "Concat": (helper.make_node("Concat", ["r"], ["m"], axis=1), ()),
    "Sum": (helper.make_node("Sum", ["r"], ["m"]), ()),
    "Max": (helper.make_node("Max", ["r"], ["m"]), ()),
    "Min": (helper.make_node("Min", ["r"], ["m"]), ()),
    "Mean": (helper.make_node("Mean", ["r"], ["m"]), ()),
}


@pytest.mark.parametrize("case", NOTHING.values(), ids=NOTHING.keys())
def test_an_operator_that_does_nothing_is_taken_out(case):
    node, constants = case

    assert operators(canonical_with(node, constants=constants)) == ["Relu", "Exp"]


def test_every_rule_has_a_case():
    assert {node.op_type for node, _ in NOTHING.values()} == set(PASS_THROUGH)


SOMETHING = {
    "Dropout": (
        helper.make_node("Dropout", ["r", "ratio", "mode"], ["m"]),
        (("ratio", HALF), ("mode", TRUE)),
    ),
    "Pad": (
        helper.make_node("Pad", ["r", "pads"], ["m"]),
        (("pads", onnx.numpy_helper.from_array(np.array([0, 0, 0, 1]))),),
    ),
    "Concat": (helper.make_node("Concat", ["r", "x"], ["m"], axis=1), ()),
}


@pytest.mark.parametrize("case", SOMETHING.values(), ids=SOMETHING.keys())
def test_an_operator_that_does_something_stays(case):
    node, constants = case

    assert operators(canonical_with(node, constants=constants)) == ["Relu", node.op_type, "Exp"]


def test_chains_are_taken_out_together():
    chain = [
        helper.make_node("Identity", ["r"], ["a"]),
        helper.make_node("Dropout", ["a"], ["b"]),
        helper.make_node("Identity", ["b"], ["m"]),
    ]

    assert operators(canonical_with(*chain)) == ["Relu", "Exp"]


def test_an_output_keeps_its_name_when_its_producer_goes():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Dropout", ["r"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    model = canonicalize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))

    assert operators(model) == ["Relu"]
    assert [value.name for value in model.graph.output] == ["y"]
    assert session(model).run(["y"], {"x": -np.ones((2, 3), np.float32)})[0].tolist() == [[0.0] * 3] * 2
