"""A class token whose size is computed from the batch: inference loses it, running the model does not."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from clearweight.exporter.graph.measured_shape import state_shapes


def token_network(*further, outputs=("both",)):
    """[N, 4, 3] rows behind a token that is expanded to [N, 1, 3] by a shape that a tracer would write."""
    weights = {
        "token": np.ones((1, 1, 3), np.float32),
        "first": np.array([0]),
        "rest": np.array([-1, -1]),
        "minus": np.array([-1, -1, -1]),
        "ones": np.array([1, 1, 1]),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Equal", ["wanted", "minus"], ["kept"]),
        helper.make_node("Where", ["kept", "ones", "wanted"], ["sizes"]),
        helper.make_node("Expand", ["token", "sizes"], ["tokens"]),
        helper.make_node("Concat", ["tokens", "x"], ["both"], axis=1),
        *further,
    ]
    graph = helper.make_graph(
        nodes,
        "token",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 5, 3]) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def shapes(model):
    return {
        value.name: tuple(dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.value_info
    }


def test_every_value_gets_its_shape_and_the_batch_stays_free():
    model = token_network()

    found = shapes(state_shapes(model))

    assert found["tokens"] == ("N", 1, 3)
    assert found["sizes"] == (3,)
    assert "both" not in found  # an output states its own
    assert not model.graph.value_info


def test_what_is_stated_stays_as_it_is_and_made_up_names_do_not_count():
    model = token_network()
    model.graph.value_info.append(
        helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["unk__1", 1, 3])
    )
    model.graph.value_info.append(helper.make_tensor_value_info("kept", TensorProto.BOOL, [3]))

    found = shapes(state_shapes(model))

    assert (found["tokens"], found["kept"]) == (("N", 1, 3), (3,))


def test_a_model_that_states_everything_is_left_alone():
    stated = state_shapes(token_network())

    assert state_shapes(stated) is stated


@pytest.mark.parametrize("kind", ["NonZero", "Unique"])
def test_shapes_that_depend_on_values_are_not_guessed(kind):
    model = token_network(helper.make_node(kind, ["both"], ["chosen"]))

    assert state_shapes(model) is model


def test_a_dimension_that_differs_between_two_inputs_stays_open():
    # As many zeros as the largest element says.
    further = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "hundred"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["k"]),
        helper.make_node("ConstantOfShape", ["k"], ["as_many"]),
    ]
    model = token_network(*further)
    for name, values in (("hundred", np.float32(100)), ("one", np.array([1]))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))

    (dim,) = next(
        v for v in state_shapes(model).graph.value_info if v.name == "as_many"
    ).type.tensor_type.shape.dim

    assert not dim.HasField("dim_value")
    assert not dim.HasField("dim_param")
