"""Against torch in double precision, and against onnx's reference where that works."""

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional

from clearweight.exporter.explain.float64_convolution import CONVOLUTION


def evaluate(op, x, w, b, ops, **attributes):
    names = ["x", "w", "b"] if b is not None else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "one",
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return ReferenceEvaluator(model, new_ops=ops).run(None, dict(zip(names, (x, w, b), strict=False)))[0]


CASES = list(itertools.product((1, 2, 3), (1, 2, 4), (1, 2), (1, 2), (0, 1), (False, True)))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_every_geometry_agrees_with_torch(op):
    random = np.random.default_rng(0)
    for axes, groups, stride, dilation, pad, biased in CASES:
        space, kernel = (7, 6, 5)[:axes], (3, 2, 1)[:axes]
        x = random.standard_normal((2, 4, *space))
        w = random.standard_normal((8, 4 // groups, *kernel) if op == "Conv" else (4, 8 // groups, *kernel))
        b = random.standard_normal(8) if biased else None
        if any(size - 1 < pad for size in kernel) and op == "ConvTranspose":
            pad = 0  # noqa: PLW2901  # nothing to cut off where the kernel has one place
        given = {
            "strides": [stride] * axes,
            "dilations": [dilation] * axes,
            "pads": [pad] * 2 * axes,
            "group": groups,
        }
        further = {}
        if op == "ConvTranspose" and stride > 1:
            given["output_padding"] = [1] * axes
            further["output_padding"] = 1
        function = getattr(functional, f"conv{'_transpose' if op == 'ConvTranspose' else ''}{axes}d")
        tensors = (None if a is None else torch.from_numpy(a) for a in (x, w, b))

        found = evaluate(op, x, w, b, CONVOLUTION, **given)

        expected = function(*tensors, stride=stride, padding=pad, groups=groups, dilation=dilation, **further)
        assert np.allclose(found, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Conv", {}),
        ("Conv", {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
        ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("ConvTranspose", {}),
        ("ConvTranspose", {"pads": [0, 1, 1, 0], "strides": [2, 3]}),
        ("ConvTranspose", {"output_shape": [14, 13], "strides": [2, 2]}),
    ],
)
def test_uneven_padding_and_sizes_by_name_are_the_references(op, attributes):
    random = np.random.default_rng(1)
    x, w, b = (
        random.standard_normal((2, 3, 7, 6)),
        random.standard_normal((3, 3, 2, 3)),
        random.standard_normal(3),
    )

    found, expected = (evaluate(op, x, w, b, ops, **attributes) for ops in (CONVOLUTION, []))

    assert found.dtype == np.float64
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    assert onnx.defs.get_schema(op, 18).since_version == 11
