"""A name means the same in the float and in the quantized graph."""

import numpy as np
import onnx
import pytest

from clearweight.exporter.graph import int8_onnx, session, split_parameters
from clearweight.exporter.graph.quantized_names import name_as_float, roundings


def values(model, names, x):
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for name in names:
        opened.graph.output.add(name=name)
    return dict(zip(names, session(opened).run(list(names), {"input": x}), strict=True))


def test_parameters_keep_name_and_shape(network, exported):
    module, images = network
    model = exported(module, images)
    _, before = split_parameters(model)
    _, after = split_parameters(int8_onnx(model, images.numpy()))

    for name, array in before.items():
        assert after[name].shape == array.shape
        assert after[name].dtype == (np.int8 if name.endswith("weight") else np.int32)
    assert all(name.rpartition(".")[2] in {"scale", "zero_point"} for name in set(after) - set(before))


def test_values_of_one_name_are_near_each_other(pooled_cnn, exported):
    module, images = pooled_cnn
    model, x = exported(module, images), images.numpy()
    quantized = int8_onnx(model, x)
    own = {name for node in quantized.graph.node for name in node.output}
    common = [
        name
        for node in model.graph.node
        for name in node.output
        if name in own and node.op_type != "Constant"
    ]

    assert {"conv1", "pool", "conv2", "logits"} <= set(common)
    exact, rounded = values(model, common, x), values(quantized, common, x)
    for name in common:
        assert np.abs(exact[name] - rounded[name]).max() < 0.05 * np.ptp(exact[name]), name


def test_a_rectifier_that_the_rounding_took_over_still_gives_its_name_to_what_comes_out(pooled_cnn, exported):
    module, images = pooled_cnn
    model, x = exported(module, images), images.numpy()
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    quantized = int8_onnx(model, x)

    assert not any(node.op_type == "Relu" for node in quantized.graph.node)
    seen = values(quantized, [relu.input[0], relu.output[0]], x)
    assert seen[relu.input[0]].min() < 0
    assert seen[relu.output[0]].min() == 0


def test_every_rounding_is_found_with_both_its_ends(pooled_cnn, exported):
    module, images = pooled_cnn
    graph = int8_onnx(exported(module, images), images.numpy()).graph

    found = roundings(graph)
    assert len(found) == sum(node.op_type == "QuantizeLinear" for node in graph.node)
    assert (found[0].value, found[0].rounded) == ("input", "input.rounded")
    assert all(entry.quantize.output[0] == entry.dequantize.input[0] for entry in found)


@pytest.mark.parametrize("taken", ["w.scale", "w.dequantized"])
def test_a_name_that_is_taken_is_given_way_to(taken):
    scalar = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [0.5])
    weight = onnx.helper.make_tensor("w_quantized", onnx.TensorProto.INT8, [2], [1, 2])
    other = onnx.helper.make_tensor(taken, onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("DequantizeLinear", ["w_quantized", "s"], ["d"], "d"),
            onnx.helper.make_node("Add", ["d", taken], ["sum"], "sum"),
            onnx.helper.make_node("Add", ["x", "sum"], ["y"], "y"),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
        [weight, scalar, other],
    )
    name_as_float(graph)

    names = [t.name for t in graph.initializer] + [o for node in graph.node for o in node.output]
    assert len(set(names)) == len(names)
    assert {"w", taken, f"{taken}_2"} <= set(names)
    assert list(graph.node[1].input)[1] == taken
