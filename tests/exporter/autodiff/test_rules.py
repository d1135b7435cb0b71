import numpy as np
import pytest
import torch

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session
from tests.exporter.autodiff.cases import CASES, SPECIAL_POINTS, conv_transpose, pads
from tests.exporter.autodiff.vjp import forward_model, names_of, sample, vjp_model

STEP = 1e-6


def test_every_rule_has_a_case_and_every_case_a_rule():
    assert set(RULES) == {case.key for case in CASES}


def test_no_operator_is_both_differentiable_and_not():
    assert not set(RULES) & NON_DIFFERENTIABLE


def graphs(case):
    inputs, weights = sample(case)
    forward = forward_model(case, weights)
    return inputs, weights, forward, vjp_model(forward)


def cotangent(y):
    return np.random.default_rng(1).normal(size=y.shape).astype(np.float32).astype(np.float64)


def torch_gradients(case, inputs, weights, dy):
    """Gradients by torch autograd in float64, for the case's torch function with the operator's inputs in order."""
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    arguments = []
    for name in names_of(case):
        if name.startswith("x_"):
            arguments.append(tensors[name])
        elif name.startswith("weight_"):
            arguments.append(torch.tensor(weights[int(name[7:])]))
    case.oracle(*arguments).backward(torch.tensor(dy))
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vjp_is_the_derivative(case):
    """(a) float64 central differences, (b) onnxruntime float32, (c) torch autograd."""
    inputs, weights, forward, vjp = graphs(case)
    twin = Float64Twin(forward)
    y = twin.run(inputs)["y"]
    dy = cotangent(y)
    gradients = Float64Twin(vjp).run({**inputs, "dy": dy})

    rng = np.random.default_rng(2)
    directions = {name: rng.normal(size=value.shape) for name, value in inputs.items()}
    up, down = (
        twin.run({name: value + sign * STEP * directions[name] for name, value in inputs.items()})["y"]
        for sign in (1, -1)
    )
    by_difference = float((dy * (up - down)).sum() / (2 * STEP))
    by_rule = float(sum((gradients[f"d_{name}"] * v).sum() for name, v in directions.items()))
    scale = max(1.0, np.linalg.norm([np.linalg.norm(g) for g in gradients.values()]))

    assert by_rule == pytest.approx(by_difference, abs=case.tol * scale)
    for name, value in inputs.items():
        assert gradients[f"d_{name}"].shape == value.shape
    assert_runtime_agrees(vjp, {**inputs, "dy": dy}, gradients)
    if case.oracle is not None:
        for name, expected in torch_gradients(case, inputs, weights, dy).items():
            np.testing.assert_allclose(gradients[f"d_{name}"], expected, rtol=1e-6, atol=1e-6 * scale)


def assert_runtime_agrees(vjp, feeds, expected):
    runtime = session(vjp)
    wanted = {entry.name for entry in runtime.get_inputs()}
    got = runtime.run(
        None, {name: np.asarray(value, np.float32) for name, value in feeds.items() if name in wanted}
    )
    for output, value in zip(runtime.get_outputs(), got, strict=True):
        aim = expected[output.name]
        assert value.shape == aim.shape
        np.testing.assert_allclose(value, aim, rtol=0, atol=2e-5 * max(1.0, np.abs(aim).max()))


@pytest.mark.parametrize("case", SPECIAL_POINTS, ids=str)
def test_on_a_kink_the_convention_is_torchs(case):
    inputs, weights, forward, vjp = graphs(case)
    dy = cotangent(Float64Twin(forward).run(inputs)["y"])
    gradients = Float64Twin(vjp).run({**inputs, "dy": dy})

    for name, expected in torch_gradients(case, inputs, weights, dy).items():
        np.testing.assert_allclose(gradients[f"d_{name}"], expected, rtol=1e-6, atol=1e-9)
    assert_runtime_agrees(vjp, {**inputs, "dy": dy}, gradients)


# What the reference evaluator cannot run: cropping with Pad, and ConvTranspose sized by its output.
LINEAR_ON_RUNTIME_ONLY = [
    pads((2, 3, 4), (0, 0, -1, 0, 1, -2)),
    conv_transpose((2, 3, 5, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[10, 10], bias=False),
    conv_transpose(
        (2, 3, 5, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[9, 10], auto_pad="SAME_UPPER", bias=False
    ),
]


@pytest.mark.parametrize("case", LINEAR_ON_RUNTIME_ONLY, ids=str)
def test_vjp_of_a_linear_operator_is_its_adjoint(case):
    inputs, _, forward, vjp = graphs(case)
    x = inputs["x_0"].astype(np.float32)
    y = session(forward).run(None, {"x_0": x})[0]
    dy = cotangent(y).astype(np.float32)
    runtime = session(vjp)
    dx = runtime.run(None, {"dy": dy, "x_0": x} if len(runtime.get_inputs()) > 1 else {"dy": dy})[0]

    assert dx.shape == x.shape
    assert float((dx * x).sum()) == pytest.approx(float((dy * y).sum()), rel=1e-4)
