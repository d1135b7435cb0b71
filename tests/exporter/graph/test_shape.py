"""Every value has a shape, and the batch is its only free axis."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from clearweight.exporter.graph import canonicalize, session, to_onnx


def shapes(model):
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }


def test_shapes_of_all_values_agree_with_a_run(network, exported):
    module, images = network
    model = exported(module, images)
    declared = shapes(model)
    names = [name for name in declared if name != "input"]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )

    found = session(watched).run(names, {"input": images.numpy()})

    assert {name for node in model.graph.node for name in node.output if node.op_type != "Constant"} == set(
        names
    )
    for name, value in zip(names, found, strict=True):
        assert [7 if dim == "N" else dim for dim in declared[name]] == list(value.shape)


class Unfolded(nn.Module):
    """Moves patches into the batch and back."""

    def forward(self, x):
        patches = torch.relu(x.reshape(-1, 2, 4))
        return patches.reshape(-1, 24)


def test_a_multiple_of_the_batch_is_written_as_one():
    model = to_onnx(Unfolded(), torch.randn(2, 24))

    assert shapes(model)["reshape"] == ["3*N", 2, 4]
    assert shapes(model)["logits"] == ["N", 24]


def test_a_declared_batch_of_one_is_freed():
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Softmax", ["f"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
    )

    model = canonicalize(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))

    assert shapes(model) == {"x": ["N", 2, 3], "f": ["N", 6], "y": ["N", 6]}
    assert session(model).run(None, {"x": np.zeros((4, 2, 3), np.float32)})[0].shape == (4, 6)
