"""Straight-through gradients against their definition and against torch's fake quantisation."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from clearweight.exporter.autodiff import UnsupportedOpError
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session
from tests.exporter.autodiff.quantization_cases import QUANTIZATION_CASES, RANGES, QuantizationCase
from tests.exporter.autodiff.vjp import vjp_model


def sample(case):
    """Inside, outside, on every rounding tie and exactly on both ends of the range."""
    rng = np.random.default_rng(0)
    scale, zero = case.broadcast()
    low, high = RANGES[case.dtype]
    ends = np.array([low, low - 0.5, low - 1, high, high + 0.5, high + 1, (low + high) // 2 + 0.5, 0])
    spread = rng.uniform(low - 60, high + 60, size=case.shape[1:])
    steps = np.stack([np.broadcast_to(ends, case.shape[1:]), spread]) - zero
    return (steps * scale).astype(np.float32)


def definition(case, x, dy):
    """``dx = dy`` where ``lo <= round_half_even(x / s) + z <= hi``; x / s in float32, as the operator computes it."""
    scale, zero = case.broadcast()
    low, high = RANGES[case.dtype]
    steps = np.rint(x / scale.astype(np.float32)).astype(np.float64) + zero
    return np.where((steps >= low) & (steps <= high), dy, 0)


@pytest.mark.parametrize("case", QUANTIZATION_CASES, ids=str)
def test_the_gradient_passes_exactly_where_nothing_was_clipped(case):
    x = sample(case)
    dy = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    vjp = vjp_model(case.model())
    dx = session(vjp).run(None, {"x": x, "dy": dy})[0]
    expected = definition(case, x, dy)

    np.testing.assert_array_equal(dx, expected)
    assert 0 < np.count_nonzero(expected) < expected.size
    scale, zero = case.broadcast()
    low, high = RANGES[case.dtype]
    steps = x / scale + zero
    # On a tie at an end of the range the last bit of x / s decides, and the two precisions differ in it.
    decided = (np.abs(steps - low + 0.5) > 0.01) & (np.abs(steps - high - 0.5) > 0.01)
    twin = Float64Twin(vjp).run({"x": x, "dy": dy})["d_x"]
    np.testing.assert_allclose(twin[decided], expected[decided], rtol=1e-12)
    assert decided.mean() > 0.8


@pytest.mark.parametrize(
    "case", [case for case in QUANTIZATION_CASES if case.dtype == "uint8" and case.opset == 18], ids=str
)
def test_the_mask_is_that_of_torchs_fake_quantisation(case):
    rng = np.random.default_rng(2)
    scale, zero = case.broadcast()
    x = (rng.uniform(-100, 400, size=case.shape) * scale - zero * scale).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    source = torch.tensor(x, requires_grad=True)
    low, high = RANGES[case.dtype]
    if case.axis is None:
        y = torch.fake_quantize_per_tensor_affine(source, float(scale.item()), int(zero.item()), low, high)
    else:
        y = torch.fake_quantize_per_channel_affine(
            source,
            torch.tensor(scale.reshape(-1), dtype=torch.float32),
            torch.tensor(zero.reshape(-1), dtype=torch.int32),
            case.axis % len(case.shape),
            low,
            high,
        )
    y.backward(torch.tensor(dy))
    runtime = session(vjp_model(case.model()))

    np.testing.assert_array_equal(runtime.run(None, {"x": x, "dy": dy})[0], source.grad.numpy())


def test_the_scales_of_a_pair_cancel():
    operators = [node.op_type for node in vjp_model(QUANTIZATION_CASES[0].model()).graph.node]

    assert operators.count("Div") == 1  # x / s, for the mask
    assert operators.count("Mul") == 1  # the mask


def test_taken_apart_dequantize_multiplies_by_the_scale_and_quantize_divides():
    case = QuantizationCase("uint8", (0.25,), (128,))
    model = case.model()
    model.graph.node.add(op_type="Relu", input=["y"], output=["r"], name="relu")
    model.graph.output[0].name = "r"
    second = helper.make_node("QuantizeLinear", ["r", "s2", "z"], ["q2"], "quantize2")
    third = helper.make_node("DequantizeLinear", ["q2", "s3", "z"], ["y2"], "dequantize2")
    model.graph.node.extend([second, third])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "s2"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2.0), "s3"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y2", 1, ["N", 3, 8]))
    renamed = onnx.compose.add_prefix(model, "m.")
    renamed.graph.output[0].name = "y"
    renamed.graph.node[-1].output[0] = "y"
    x = np.random.default_rng(0).uniform(0.3, 20, size=case.shape).astype(np.float32)
    dy = np.ones_like(x)
    (dx,) = session(vjp_model(renamed)).run(None, {"m.x": x, "dy": dy})

    np.testing.assert_allclose(dx, 2.0 / 0.5)


@pytest.mark.parametrize(
    ("attrs", "zero_point", "message"),
    [
        ({"block_size": 4, "axis": 2}, None, "block_size"),
        ({"output_dtype": onnx.TensorProto.FLOAT8E4M3FN}, None, "FLOAT8E4M3FN"),
    ],
)
def test_quantization_that_the_definition_does_not_cover_is_refused(attrs, zero_point, message):
    scale = np.full((2, 3, 2) if "block_size" in attrs else (), 0.5, np.float32)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "quantize", **attrs)]
    del attrs["axis" if "axis" in attrs else "output_dtype"]
    keep = {"block_size": 4, "axis": 2} if "block_size" in attrs else {}
    nodes.append(helper.make_node("DequantizeLinear", ["q", "s"], ["y"], "dequantize", **keep))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3, 8])],
        [helper.make_tensor_value_info("y", 1, [2, 3, 8])],
        [onnx.numpy_helper.from_array(scale, "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(UnsupportedOpError, match=message):
        vjp_model(model)
