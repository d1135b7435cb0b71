import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from clearweight.exporter.autodiff import (
    NON_DIFFERENTIABLE,
    RULES,
    Emit,
    Graph,
    UnknownShapeError,
    UnknownValueError,
    UnsupportedOpError,
    pull_back,
)
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session
from tests.exporter.autodiff.vjp import vjp_model

FLOAT = onnx.TensorProto.FLOAT
RNG = np.random.default_rng(0)
WEIGHTS = {
    "w1": RNG.normal(size=(4, 2, 3, 3)),
    "b1": RNG.normal(size=4),
    "w2": RNG.normal(size=(36, 5)),
    "bias2": RNG.normal(size=5),
}


def model(nodes, inputs, parameters=(), opset=18):
    made = [helper.make_node(op, ins, outs, f"node_{outs[0]}", **attrs) for op, ins, outs, attrs in nodes]
    sources = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    initializers = [
        onnx.numpy_helper.from_array(WEIGHTS[name].astype(np.float32), name) for name in parameters
    ]
    output = onnx.ValueInfoProto(name="y")
    output.type.tensor_type.elem_type = FLOAT
    graph = helper.make_graph(made, "g", sources, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def gradients(proto, feeds):
    vjp = vjp_model(proto)
    needed = {entry.name for entry in vjp.graph.input}
    return Float64Twin(vjp).run({name: value for name, value in feeds.items() if name in needed})


def test_a_value_used_twice_gets_the_sum_of_both_gradients():
    proto = model([("Mul", ["x", "x"], ["s"], {}), ("Add", ["s", "x"], ["y"], {})], {"x": ["N", 3]})
    x, dy = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))

    assert gradients(proto, {"x": x, "dy": dy})["d_x"] == pytest.approx(dy * (2 * x + 1))


def test_three_consumers_add_up():
    nodes = [
        ("Sigmoid", ["x"], ["a"], {}),
        ("Tanh", ["x"], ["b"], {}),
        ("Add", ["a", "b"], ["c"], {}),
        ("Sub", ["c", "x"], ["y"], {}),
    ]
    x, dy = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    sigmoid = 1 / (1 + np.exp(-x))
    expected = dy * (sigmoid * (1 - sigmoid) + 1 - np.tanh(x) ** 2 - 1)

    assert gradients(model(nodes, {"x": ["N", 3]}), {"x": x, "dy": dy})["d_x"] == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 2])
def test_an_axis_of_open_size_is_summed_only_if_it_was_repeated(rows):
    proto = model([("Add", ["x", "z"], ["y"], {})], {"x": [2, "A"], "z": ["B", 3]})
    x, z, dy = RNG.normal(size=(2, 1)), RNG.normal(size=(rows, 3)), RNG.normal(size=(2, 3))
    got = gradients(proto, {"x": x, "z": z, "dy": dy})

    assert got["d_x"] == pytest.approx(dy.sum(axis=1, keepdims=True))
    assert got["d_z"] == pytest.approx(dy.sum(axis=0, keepdims=True) if rows == 1 else dy)


def test_shapes_are_read_at_run_time_only_where_the_graph_leaves_them_open():
    known = model([("Add", ["x", "z"], ["y"], {})], {"x": ["N", 3], "z": ["N", 1]})
    assert "Shape" not in {node.op_type for node in vjp_model(known).graph.node}

    unknown = model([("Add", ["x", "z"], ["y"], {})], {"x": ["A", 3], "z": ["B", 3]})
    assert "Shape" in {node.op_type for node in vjp_model(unknown).graph.node}


CNN = [
    ("Conv", ["x", "w1", "b1"], ["c"], {"pads": [1, 1, 1, 1]}),
    ("Relu", ["c"], ["r"], {}),
    ("MaxPool", ["r"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Flatten", ["p"], ["f"], {}),
    ("Gemm", ["f", "w2", "bias2"], ["y"], {}),
]


def cnn():
    return model(CNN, {"x": ["N", 2, 6, 6]}, WEIGHTS)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_batch_gives_the_gradients_of_its_rows(batch):
    runtime = session(vjp_model(cnn()))
    x = RNG.normal(size=(batch, 2, 6, 6)).astype(np.float32)
    dy = RNG.normal(size=(batch, 5)).astype(np.float32)
    whole = runtime.run(None, {"x": x, "dy": dy})[0]
    rows = [runtime.run(None, {"x": x[i : i + 1], "dy": dy[i : i + 1]})[0] for i in range(batch)]

    np.testing.assert_allclose(whole, np.concatenate(rows), rtol=1e-5, atol=1e-6)


def test_only_standard_operators_are_emitted_and_the_parameters_stay_the_models():
    vjp = vjp_model(cnn())
    onnx.checker.check_model(vjp, full_check=True)

    assert {node.domain for node in vjp.graph.node} == {""}
    assert [tensor.name for tensor in vjp.graph.initializer] == list(WEIGHTS)
    assert [(o.domain, o.version) for o in vjp.opset_import] == [("", 18)]


def test_cotangents_of_intermediate_values_and_of_parameters_can_be_asked_for():
    graph = Graph(cnn())
    graph.add_input("dy", graph.type("y"))
    found = pull_back(Emit(graph), {"y": "dy"}, ["c", "b1", "bias2"], RULES, NON_DIFFERENTIABLE)
    for value in ("c", "b1", "bias2"):
        graph.export(found[value], f"d_{value}")
    made = graph.model(["dy"], ["d_c", "d_b1", "d_bias2"])
    dy = RNG.normal(size=(3, 5))
    got = Float64Twin(made).run({"x": RNG.normal(size=(3, 2, 6, 6)), "dy": dy})

    assert got["d_bias2"] == pytest.approx(dy.sum(axis=0))
    assert got["d_b1"] == pytest.approx(got["d_c"].sum(axis=(0, 2, 3)))


def test_an_operator_without_a_rule_is_named_with_its_node():
    proto = model([("Relu", ["x"], ["r"], {}), ("Erf", ["r"], ["y"], {})], {"x": ["N", 3]})
    with pytest.raises(UnsupportedOpError, match=r"No VJP rule for Erf-13 \(node 'node_y'\)"):
        vjp_model(proto)


def test_an_operator_without_a_rule_does_no_harm_off_the_path():
    nodes = [("Erf", ["z"], ["e"], {}), ("Mul", ["x", "e"], ["y"], {})]
    graph = Graph(model(nodes, {"x": ["N", 3], "z": ["N", 3]}))
    graph.add_input("dy", graph.type("y"))

    assert "x" in pull_back(Emit(graph), {"y": "dy"}, ["x"], RULES, NON_DIFFERENTIABLE)


def test_an_operator_of_another_domain_is_named():
    node = helper.make_node("Gelu", ["x"], ["y"], "odd", domain="com.microsoft")
    output = helper.make_tensor_value_info("y", FLOAT, ["N", 3])
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", FLOAT, ["N", 3])], [output])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    with pytest.raises(UnsupportedOpError, match=r"com\.microsoft::Gelu.*node 'odd'"):
        vjp_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def test_an_operator_that_stops_gradients_stops_them():
    nodes = [("Sign", ["x"], ["s"], {}), ("Mul", ["s", "x"], ["y"], {})]
    x, dy = np.array([[-2.0, 3.0]]), np.array([[1.0, 1.0]])

    assert gradients(model(nodes, {"x": ["N", 2]}), {"x": x, "dy": dy})["d_x"] == pytest.approx(np.sign(x))


def test_a_value_that_no_path_reaches_is_missing():
    graph = Graph(model([("Sign", ["x"], ["y"], {})], {"x": ["N", 2]}))
    graph.add_input("dy", graph.type("y"))

    assert "x" not in pull_back(Emit(graph), {"y": "dy"}, ["x"], RULES, NON_DIFFERENTIABLE)


def test_an_unknown_value_is_named():
    graph = Graph(cnn())
    with pytest.raises(UnknownValueError, match="'nothing'"):
        pull_back(Emit(graph), {}, ["nothing"], RULES, NON_DIFFERENTIABLE)


def test_a_size_that_a_rule_needs_and_the_graph_leaves_open_is_named():
    nodes = [("Conv", ["x", "w1"], ["y"], {"strides": [2, 2]})]
    with pytest.raises(UnknownShapeError, match=r"'x'.*Conv-11 \(node 'node_y'\).*axis 2"):
        vjp_model(model(nodes, {"x": ["N", 2, "H", "W"]}, ["w1"]))


def test_open_spatial_sizes_are_fine_at_stride_one():
    nodes = [("Conv", ["x", "w1"], ["y"], {"pads": [1, 1, 1, 1]})]
    runtime = session(vjp_model(model(nodes, {"x": ["N", 2, "H", "W"]}, ["w1"])))
    dy = RNG.normal(size=(2, 4, 5, 7)).astype(np.float32)
    feeds = {entry.name: dy for entry in runtime.get_inputs() if entry.name == "dy"}
    feeds |= {e.name: np.zeros((2, 2, 5, 7), np.float32) for e in runtime.get_inputs() if e.name == "x"}

    assert runtime.run(None, feeds)[0].shape == (2, 2, 5, 7)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("Conv", ["x", "p"], ["y"], {}), "gradient to its weight"),
        (("Clip", ["x", "", "q"], ["y"], {}), "not to its bounds"),
    ],
)
def test_a_use_that_a_rule_does_not_cover_is_an_error_not_a_zero(node, message):
    proto = model([node], {"x": ["N", 2, 6, 6], "p": [4, 2, 3, 3], "q": []})
    graph = Graph(proto)
    graph.add_input("dy", graph.type("y"))
    with pytest.raises(UnsupportedOpError, match=message):
        pull_back(Emit(graph), {"y": "dy"}, [node[1][-1]], RULES, NON_DIFFERENTIABLE)


def test_old_opsets_are_refused():
    with pytest.raises(UnsupportedOpError, match="opset 13, expected 16"):
        Graph(model([("Relu", ["x"], ["y"], {})], {"x": ["N", 3]}, opset=13))


def test_the_same_model_gives_the_same_bytes():
    first, second = (vjp_model(cnn()).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_differentiating_does_not_load_torch():
    program = "import sys, clearweight.exporter.autodiff; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
