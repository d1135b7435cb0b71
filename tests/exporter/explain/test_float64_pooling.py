"""Against torch in double precision, values and places, and against onnx's reference where that is right."""

import itertools

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from clearweight.exporter.explain.float64_pooling import POOLING


def evaluate(x, ops, outputs=2, **attributes):
    names = ["y", "i"][:outputs]
    graph = helper.make_graph(
        [helper.make_node("MaxPool", ["x"], names, **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, None)],
        [
            helper.make_tensor_value_info(n, t, None)
            for n, t in zip(names, (TensorProto.DOUBLE, TensorProto.INT64), strict=False)
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return ReferenceEvaluator(model, new_ops=ops).run(None, {"x": x})


CASES = list(itertools.product((1, 2, 3), (1, 2, 3), (1, 2), (0, 1), (False, True)))


def test_every_geometry_agrees_with_torch():
    random = np.random.default_rng(0)
    for axes, stride, dilation, pad, ceil in CASES:
        x = random.standard_normal((2, 3, *(9, 8, 7)[:axes]))
        function = getattr(functional, f"max_pool{axes}d")
        expected, where = function(
            torch.from_numpy(x), 2, stride, pad, dilation, ceil_mode=ceil, return_indices=True
        )

        found, places = evaluate(
            x,
            POOLING,
            kernel_shape=[2] * axes,
            strides=[stride] * axes,
            dilations=[dilation] * axes,
            pads=[pad] * 2 * axes,
            ceil_mode=int(ceil),
        )

        np.testing.assert_array_equal(found, expected.numpy())
        # torch counts places within a channel, ONNX within the whole tensor.
        channel = np.arange(6).reshape(2, 3, *[1] * axes) * int(np.prod(x.shape[2:]))
        np.testing.assert_array_equal(places, where.numpy() + channel)


def test_of_equal_values_the_first_is_taken():
    found, places = evaluate(np.ones((1, 1, 4, 4)), POOLING, kernel_shape=[3, 3], strides=[1, 1])

    np.testing.assert_array_equal(found, np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(places.ravel(), [0, 1, 4, 5])


def test_places_are_counted_down_columns_where_asked():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    _, places = evaluate(x, POOLING, kernel_shape=[2, 2], storage_order=1)

    # The largest of each window is its lower right one, at row 1 or 2 and column 1 to 3: column * 3 + row.
    np.testing.assert_array_equal(places[0, 0], [[4, 7, 10], [5, 8, 11]])


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 3]},
        {"strides": [2, 1], "pads": [0, 1, 1, 0]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"strides": [3, 2], "ceil_mode": 1, "dilations": [2, 1]},
    ],
)
def test_uneven_geometry_is_the_references(attributes):
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9))

    (found,), (expected,) = (
        evaluate(x, ops, outputs=1, kernel_shape=[2, 3], **attributes) for ops in (POOLING, [])
    )

    np.testing.assert_array_equal(found, expected)
