"""A Softmax at the end is cut off and put back without changing what the model returns."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from clearweight.exporter.graph import session
from clearweight.exporter.graph.probability_tail import cut_tail, restore_tail


def classifier(*tail, output="p", shape=("N", 3)):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"], "head"), *tail]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            [onnx.numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) / 9, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def node(kind, source="logits", output="p", **attributes):
    return helper.make_node(kind, [source], [output], "tail", **attributes)


X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    "tail", [node("Softmax"), node("Softmax", axis=1), node("LogSoftmax", axis=-1), node("Sigmoid")]
)
def test_what_is_cut_gives_the_logits_and_what_is_restored_the_probabilities(tail):
    whole = classifier(tail)

    bare, cut = cut_tail(whole)
    again = restore_tail(bare, cut)

    assert cut.logits == "logits"
    assert np.allclose(
        session(bare).run(["logits"], {"x": X})[0],
        X @ np.arange(12, dtype=np.float32).reshape(4, 3) / 9,
        atol=1e-6,
    )
    assert np.array_equal(session(again).run(None, {"x": X})[0], session(whole).run(None, {"x": X})[0])
    assert [output.name for output in again.graph.output] == ["p"]
    assert len(whole.graph.node) == 2  # the caller's model is untouched


@pytest.mark.parametrize(
    "model",
    [
        classifier(output="logits"),
        classifier(node("Softmax", axis=0)),
        classifier(node("Relu")),
        classifier(node("Softmax", source="x"), shape=("N", 4)),
    ],
    ids=["none", "over the batch", "no probabilities", "of the input itself"],
)
def test_anything_else_is_left_alone(model):
    same, tail = cut_tail(model)

    assert tail is None
    assert same is model


def test_probabilities_that_are_read_again_stay():
    model = classifier(node("Softmax"), node("Relu", source="p", output="q"))
    model.graph.output[0].name = "p"

    assert cut_tail(model)[1] is None
