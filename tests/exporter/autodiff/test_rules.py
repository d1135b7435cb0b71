import numpy as np
import pytest
import torch

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES, UNSUPPORTED
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.graph import session
from tests.exporter.autodiff.cases import CASES, SPECIAL_POINTS, conv_transpose, pads
from tests.exporter.autodiff.quantization_cases import QUANTIZATION_CASES
from tests.exporter.autodiff.version_cases import versions_of
from tests.exporter.autodiff.vjp import forward_model, names_of, sample, vjp_model


def test_every_rule_has_a_case_and_every_case_a_rule():
    straight_through = {key for case in QUANTIZATION_CASES for key in case.keys}

    assert set(RULES) == {case.key for case in CASES} | straight_through


@pytest.mark.parametrize("table", [RULES, NON_DIFFERENTIABLE], ids=["rules", "non_differentiable"])
def test_no_version_between_the_oldest_and_the_newest_opset_is_missing(table):
    named: dict[str, set[int]] = {}
    for key in table:
        named.setdefault(key.op_type, set()).add(key.since_version)

    assert named == {op: set(versions_of(op)) for op in named}


def test_an_operator_is_differentiable_or_stops_gradients_or_is_declared_unsupported():
    tables = [{key.op_type for key in RULES}, {key.op_type for key in NON_DIFFERENTIABLE}, set(UNSUPPORTED)]

    assert sum(map(len, tables)) == len(set().union(*tables))


def graphs(case):
    inputs, weights = sample(case)
    forward = forward_model(case, weights)
    return inputs, weights, forward, vjp_model(forward)


def cotangent(y):
    return np.random.default_rng(1).normal(size=y.shape).astype(np.float32).astype(np.float64)


def torch_gradients(case, inputs, weights, dys):
    """Gradients by torch autograd in float64, for the case's torch function with the operator's inputs in order."""
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    arguments = []
    for name in names_of(case):
        if name.startswith("x_"):
            arguments.append(tensors[name])
        elif name.startswith("weight_"):
            arguments.append(torch.tensor(weights[int(name[7:])]))
    found = case.oracle(*arguments)
    found = [found] if isinstance(found, torch.Tensor) else found
    torch.autograd.backward(found, [torch.tensor(dy) for dy in dys.values()])
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vjp_is_the_derivative(case):
    """(a) float64 central differences, (b) onnxruntime float32, (c) torch autograd."""
    inputs, weights, forward, vjp = graphs(case)
    twin = Float64Twin(forward)
    dys = {f"d{name}": cotangent(y) for name, y in twin.run(inputs).items()}
    gradients = Float64Twin(vjp).run({**inputs, **dys})

    rng = np.random.default_rng(2)
    directions = {name: rng.normal(size=value.shape) for name, value in inputs.items()}
    up, down = (
        twin.run({name: value + sign * case.step * directions[name] for name, value in inputs.items()})
        for sign in (1, -1)
    )
    slope = sum(float((dys[f"d{name}"] * (up[name] - down[name])).sum()) for name in up)
    by_difference = slope / (2 * case.step)
    by_rule = sum(float((gradients[f"d_{name}"] * direction).sum()) for name, direction in directions.items())
    scale = max(1.0, np.linalg.norm([np.linalg.norm(g) for g in gradients.values()]))

    assert by_rule == pytest.approx(by_difference, abs=case.tol * scale)
    for name, value in inputs.items():
        assert gradients[f"d_{name}"].shape == value.shape
    assert_runtime_agrees(vjp, {**inputs, **dys}, gradients)
    if case.oracle is not None:
        for name, expected in torch_gradients(case, inputs, weights, dys).items():
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
    dys = {"dy": cotangent(Float64Twin(forward).run(inputs)["y"])}
    gradients = Float64Twin(vjp).run({**inputs, **dys})

    for name, expected in torch_gradients(case, inputs, weights, dys).items():
        np.testing.assert_allclose(gradients[f"d_{name}"], expected, rtol=1e-6, atol=1e-9)
    assert_runtime_agrees(vjp, {**inputs, **dys}, gradients)


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
