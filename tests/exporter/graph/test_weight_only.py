"""Weights in few bits: what stock ONNX Runtime computes, and what the standard form of it computes."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from clearweight.exporter.explain import build, verify
from clearweight.exporter.graph import (
    ParameterError,
    canonicalize,
    session,
    standard_operators,
    to_onnx,
    weight_only,
    weights_of,
)
from clearweight.exporter.graph.weight_only import BLOCK, few_bit_values, stored_bytes


def arrays(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def with_values(model, values):
    """The float model with other values in its parameters."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    for tensor in own.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    return own


def run(model, images):
    return session(model).run(None, {"input": images.numpy()})[0]


class Tokens(nn.Module):
    """Products over a third axis, and a weight that is read the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 40)
        self.second = nn.Linear(40, 3, bias=False)

    def forward(self, x):
        return self.second(torch.relu(self.first(x[:, 0]))).mean(1)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_the_runtime_computes_the_float_network_of_the_rounded_weights(network, exported, bits):
    module, images = network
    model = exported(module, images)
    made = weight_only(model, dict.fromkeys(weights_of(model), bits))

    expected = run(with_values(model, made.values), images)

    assert set(made.values) == set(weights_of(model))
    assert np.allclose(run(made.model, images), expected, atol=1e-5 * np.abs(expected).max())
    assert np.allclose(
        run(standard_operators(made.model), images), expected, atol=1e-5 * np.abs(expected).max()
    )
    assert not np.array_equal(run(model, images), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_tokens_are_multiplied_like_rows(bits):
    torch.manual_seed(4)
    module, images = Tokens().eval(), torch.randn(3, 1, 8, 8)
    model = to_onnx(module, images)
    made = weight_only(model, dict.fromkeys(weights_of(model), bits))
    expected = run(with_values(model, made.values), images)

    assert [n.op_type for n in made.model.graph.node].count("MatMulNBits") == 2
    assert np.allclose(run(made.model, images), expected, atol=1e-5)
    assert np.allclose(run(standard_operators(made.model), images), expected, atol=1e-5)


def test_a_packed_product_is_the_product_with_nibbles_unpacked_by_hand():
    torch.manual_seed(5)
    images = torch.randn(4, 50)
    model = to_onnx(nn.Linear(50, 6), images)
    made = weight_only(model, {"weight": 4}).model
    stored = arrays(made)

    assert [node.op_type for node in made.graph.node] == ["MatMulNBits"]
    assert stored["weight"].shape == (6, 2, BLOCK // 2)
    weight = np.zeros((6, 50))
    for row in range(6):
        for column in range(50):
            block, place = divmod(column, BLOCK)
            byte = int(stored["weight"][row, block, place // 2])
            code = byte >> 4 if place % 2 else byte & 15
            weight[row, column] = (code - 8) * float(stored["weight.scale"][row, block])
    expected = images.numpy().astype(float) @ weight.T + stored["bias"]

    assert np.allclose(run(made, images), expected, atol=1e-5)


def test_int4_tensors_are_packed_and_read_as_the_standard_says(residual_cnn, exported):
    module, images = residual_cnn
    model = exported(module, images)
    newer = canonicalize(model, parameters=list(arrays(model)), opset=21)
    bits = dict.fromkeys(weights_of(model), 4)
    native = weight_only(newer, bits, four_bit_tensors=True).model
    kinds = {t.name: t.data_type for t in native.graph.initializer}
    stored = next(t for t in native.graph.initializer if t.name == "conv1.weight")

    assert kinds["conv1.weight"] == onnx.TensorProto.INT4
    assert len(stored.raw_data) == -(-4 * 2 * 9 // 2)
    by_hand = [(byte >> shift) & 15 for byte in stored.raw_data for shift in (0, 4)]
    signed = np.array([code - 16 if code > 7 else code for code in by_hand]).reshape(4, 2, 3, 3)
    as_bytes = arrays(weight_only(model, bits).model)["conv1.weight"]
    assert np.array_equal(signed, as_bytes)
    assert np.allclose(run(native, images), run(weight_only(model, bits).model, images), atol=1e-4)
    with pytest.raises(ParameterError, match="opset 18, where DequantizeLinear takes no INT4; expected 21"):
        weight_only(model, bits, four_bit_tensors=True)


def test_sizes_are_those_of_the_stored_tensors(network, exported):
    module, images = network
    model = exported(module, images)

    for bits in (4, 8, 16, 32):
        made = arrays(weight_only(model, dict.fromkeys(weights_of(model), bits)).model)
        for name in weights_of(model):
            held = made[name].nbytes + (made[f"{name}.scale"].nbytes if bits < 16 else 0)
            if bits == 4 and made[name].dtype == np.int8:
                held -= made[name].nbytes // 2  # four of eight bits are in use
            assert stored_bytes(model, name, bits) == held
            assert few_bit_values(model, name, bits).shape == weights_of(model)[name]


def test_layers_may_differ(pooled_cnn, exported):
    module, images = pooled_cnn
    model = exported(module, images)
    bits = {"conv1.weight": 32, "conv2.weight": 8, "fc.weight": 4, "fc.bias": 16}
    made = weight_only(model, bits)
    kinds = {name: value.dtype.name for name, value in arrays(made.model).items()}

    assert {name: kinds[name] for name in bits} == {
        "conv1.weight": "float32",
        "conv2.weight": "int8",
        "fc.weight": "uint8",
        "fc.bias": "float16",
    }
    assert made.beside == {"conv2.weight.scale", "fc.weight.scale"}
    assert np.allclose(
        run(made.model, images), run(with_values(model, made.values), images), rtol=1e-4, atol=1e-5
    )


def test_explain_graphs_read_the_packed_weights_and_their_gradient_is_exact(pooled_cnn, exported):
    module, images = pooled_cnn
    model = exported(module, images)
    made = weight_only(model, dict.fromkeys(weights_of(model), 4))
    graph = build(made.model, "input_x_gradient")
    floats = build(with_values(model, made.values), "input_x_gradient")
    feed = {"input": images.numpy(), "target": np.full(len(images), 2)}

    assert set(arrays(graph.model)) == set(arrays(made.model))
    assert {entry.domain for entry in graph.model.opset_import} == {""}
    assert not graph.gradient_ste
    own, exact = (session(each.model).run(["explain"], feed)[0] for each in (graph, floats))
    assert np.allclose(own, exact, atol=1e-5 * np.abs(exact).max())
    assert verify(graph, made.model, images.numpy()[:2], None).cosine_to_float64 > 0.99999


def test_what_is_no_product_with_plain_settings_is_dequantized():
    weight = onnx.numpy_helper.from_array(np.random.default_rng(0).random((4, 4), np.float32), "w")
    node = onnx.helper.make_node("Gemm", ["input", "w"], ["y"], name="y", alpha=2.0)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "scaled",
        [value("input", onnx.TensorProto.FLOAT, ["N", 4])],
        [value("y", onnx.TensorProto.FLOAT, ["N", 4])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    made = weight_only(model, {"w": 8})
    x = torch.eye(4)

    assert [n.op_type for n in made.model.graph.node] == ["DequantizeLinear", "Gemm"]
    assert np.allclose(run(made.model, x), 2 * made.values["w"], atol=1e-6)


def test_a_model_without_packed_products_is_its_own_standard_form(perceptron, exported):
    model = exported(*perceptron)

    assert standard_operators(model) is model


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"fc9.weight": 4}, "No parameter 'fc9.weight'. Known: fc1.weight"),
        ({"fc1.weight": 5}, "take 5 bits, expected 4, 8, 16 or 32"),
        ({"fc1.bias": 8}, "take 8 bits, expected 16 or 32: only weights take fewer"),
    ],
)
def test_what_cannot_be_stored_is_named(perceptron, exported, bits, message):
    with pytest.raises(ParameterError, match=message):
        weight_only(exported(*perceptron), bits)
