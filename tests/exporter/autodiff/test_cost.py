import numpy as np
import pytest
from onnx import helper

from clearweight.exporter.autodiff.cost import COMMITTED, convolution_class
from tests.exporter.autodiff.cases import conv, max_pool
from tests.exporter.autodiff.vjp import forward_model, sample, vjp_model


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64, (3, 3), 64), "depthwise"),
        ((128, 128, (3, 3), 32), "grouped"),
        ((64, 64, (1, 1), 1), "pointwise_blocked"),
        ((24, 144, (1, 1), 1), "pointwise_blocked"),
        ((20, 1, (1, 1), 1), "pointwise"),
        ((32, 16, (3, 3), 1), "dense_blocked"),
        ((50, 20, (5, 5), 1), "dense_unblocked"),
        ((16, 3, (3, 3), 1), "dense_unblocked"),
    ],
)
def test_shape_classes(shape, expected):
    assert expected == convolution_class(*shape)


def test_the_cheapest_kernel_is_taken():
    assert COMMITTED.convolution_kernel(32, 16, (3, 3), 1) == "flipped"
    assert COMMITTED.convolution_kernel(50, 20, (5, 5), 1) == "transposed"
    assert COMMITTED.pooling_kernel((20, 24, 24)) == "match"
    assert COMMITTED.pooling_kernel((50, 8, 8)) == "unpool"


def operators(case):
    _, weights = sample(case)
    return [node.op_type for node in vjp_model(forward_model(case, weights)).graph.node]


def test_the_table_decides_which_operators_are_emitted():
    assert "ConvTranspose" not in operators(conv((2, 16, 6, 6), (16, 16, 3, 3), bias=False))
    assert "ConvTranspose" in operators(conv((2, 3, 6, 6), (16, 3, 3, 3), bias=False))
    assert "MaxUnpool" in operators(max_pool((2, 3, 8, 8), (2, 2)))
    assert "MaxUnpool" not in operators(max_pool((2, 20, 24, 24), (2, 2)))
    assert "ScatterElements" in operators(max_pool((2, 3, 7, 7), (3, 3), (2, 2)))


def test_flipping_stores_no_second_weight():
    case = conv((2, 16, 6, 6), (16, 16, 3, 3), bias=False)
    _, weights = sample(case)
    vjp = vjp_model(forward_model(case, weights))
    constants = [
        helper.get_attribute_value(node.attribute[0]) for node in vjp.graph.node if node.op_type == "Constant"
    ]

    assert [tensor.name for tensor in vjp.graph.initializer] == ["weight_1"]
    assert max(int(np.prod(tensor.dims)) for tensor in constants) <= 2
