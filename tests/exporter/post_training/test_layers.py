import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clearweight.exporter.graph import session
from clearweight.exporter.post_training.layers import layers_of
from tests.exporter.post_training.networks import cnn, exported, mlp, rows


def one_node(op: str, weight: np.ndarray, row: tuple[int, ...], **attributes: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], "node", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *row])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("op", "shape", "row", "attributes"),
    [
        ("MatMul", (7, 4), (7,), {}),
        ("Gemm", (7, 4), (7,), {}),
        ("Gemm", (4, 7), (7,), {"transB": 1}),
        ("Conv", (4, 3, 3, 3), (3, 8, 9), {}),
        ("Conv", (4, 3, 3, 2), (3, 8, 9), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
        ("Conv", (4, 3, 2, 3), (3, 11, 9), {"dilations": [2, 1], "pads": [1, 1, 0, 2]}),
        ("Conv", (4, 3, 4, 3), (3, 8, 9), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Conv", (4, 3, 4, 3), (3, 8, 9), {"auto_pad": "SAME_LOWER"}),
        ("Conv", (5, 2, 4), (2, 15), {"pads": [2, 1]}),
    ],
)
def test_columns_times_the_matrix_are_the_nodes_own_outputs(op, shape, row, attributes):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = one_node(op, weight, row, **attributes)
    (layer,) = layers_of(model)
    x = rows(3, row)
    (y,) = session(model).run(None, {"x": x})

    product = layer.columns(x) @ layer.matrix(weight).T
    np.testing.assert_allclose(product, layer.rows(y).reshape(product.shape), atol=1e-4)
    assert layer.matrix(weight).shape == layer.matrix_shape
    assert np.array_equal(layer.tensor(layer.matrix(weight)), weight)


def test_large_maps_are_thinned_out_to_places_of_the_full_grid():
    weight = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    model = one_node("Conv", weight, (1, 60, 60))
    (layer,) = layers_of(model)
    x = rows(2, (1, 60, 60))
    (y,) = session(model).run(None, {"x": x})
    product = layer.columns(x) @ layer.matrix(weight).T

    assert len(product) <= 2 * 256
    grid = y[:, :, ::4, ::4]
    np.testing.assert_allclose(product, np.moveaxis(grid, 1, -1).reshape(-1, 2), atol=1e-4)


def test_every_weight_of_a_network_is_a_layer_once_and_biases_are_none():
    for module, row, names in (
        (mlp(), (16,), ["1.weight", "3.weight"]),
        (cnn(), (2, 10, 10), ["0.weight", "2.weight", "5.weight"]),
    ):
        found = layers_of(exported(module, row))

        assert [layer.weight for layer in found] == names
        assert [layer.bias for layer in found] == [name.replace("weight", "bias") for name in names]


def test_a_grouped_convolution_pools_the_patches_of_its_groups():
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    (layer,) = layers_of(one_node("Conv", weight, (4, 6, 6), group=4))
    columns = layer.columns(rows(2, (4, 6, 6)))

    assert columns.shape == (2 * 16 * 4, 9)
