"""Straight-through maps of a quantized network against a fake-quantized torch twin, written out from the definition."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from clearweight.artifact import explain_inputs
from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, build, verify
from clearweight.exporter.explain.difference import difference_error
from clearweight.exporter.explain.float64 import Float64Twin
from clearweight.exporter.explain.frozen_rounding import frozen_rounding
from clearweight.exporter.graph import int8_onnx, session, to_onnx

REFUSED = {"deconvnet", "guided_backprop", "linearization"}
WITHOUT_GRADIENT = {"occlusion", "rise", "reciprocam", "ewa"}


class Rounded(torch.autograd.Function):
    """q = clip(round_half_even(x / s) + z, -128, 127), y = (q - z) s; dx = dy where nothing was clipped."""

    @staticmethod
    def forward(ctx, x, scale, zero):
        steps = torch.round(x / scale) + zero
        ctx.save_for_backward((steps >= -128) & (steps <= 127))
        return (steps.clamp(-128, 127) - zero) * scale

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0], None, None


class Surrogate(nn.Module):
    """The network of `quantized` by hand, from the numbers stored in its file."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.stored = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}
        self.reads = {node.output[0]: list(node.input) for node in model.graph.node}

    def rounded(self, x, name):
        _, scale, zero = self.reads[f"{name}.quantized"]
        return Rounded.apply(x, self.stored[scale], self.stored[zero].float())

    def parameter(self, name):
        integers, scale, zero = (self.stored[key] for key in self.reads[f"{name}.dequantized"])
        shape = (-1, *[1] * (integers.dim() - 1)) if scale.dim() else ()
        return (integers - zero.reshape(shape)) * scale.reshape(shape)

    def forward(self, x):
        return self.head(self.features(x))

    def features(self, x):
        x = self.rounded(x, "input")
        x = functional.conv2d(x, self.parameter("conv1.weight"), self.parameter("conv1.bias"), padding=1)
        x = self.rounded(functional.max_pool2d(self.rounded(x, "relu1"), 2), "pool")
        x = functional.conv2d(x, self.parameter("conv2.weight"), self.parameter("conv2.bias"), padding=1)
        return self.rounded(x, "relu2")

    def head(self, a):
        x = self.rounded(a.flatten(1), "flatten")
        x = functional.linear(x, self.parameter("fc1.weight"), self.parameter("fc1.bias"))
        return functional.linear(
            self.rounded(x, "relu3"), self.parameter("fc2.weight"), self.parameter("fc2.bias")
        )


@pytest.fixture(scope="module")
def quantized():
    """A small quantized CNN, inputs within and beyond what it was calibrated for, and both networks' twins."""
    torch.manual_seed(5)
    layers = {
        "conv1": nn.Conv2d(1, 4, 3, padding=1),
        "relu1": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(4, 6, 3, padding=1),
        "relu2": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(96, 12),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(12, 5),
    }
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    images = torch.rand(40, 1, 8, 8)
    exact = to_onnx(module.eval(), images)
    model = int8_onnx(exact, images.numpy())
    x = (1.4 * torch.rand(24, 1, 8, 8) - 0.2).numpy()
    return model, exact, x


def ran(graph, x, target=None):
    inputs = explain_inputs(graph.inputs, x.shape, steps=4, seed=0, settings=graph.settings)
    target = np.full(len(x), -1) if target is None else target
    return (
        dict(
            zip(
                ["explain", "logits"],
                session(graph.model).run(["explain", "logits"], {"input": x, "target": target, **inputs}),
                strict=True,
            )
        )
        | inputs
    )


def slope(module, x, target):
    source = torch.tensor(x).requires_grad_()
    score = module(source).gather(1, torch.tensor(target)[:, None]).sum()
    return torch.autograd.grad(score, source)[0].numpy()


def near(found, expected):
    return np.quantile(np.abs(found - expected), 0.99) < 1e-5 * np.abs(expected).max()


def test_the_inputs_saturate_some_roundings_and_not_others(quantized):
    model, _, x = quantized
    twin = Surrogate(model)
    blocked = (
        slope(lambda v: twin.rounded(v, "input").flatten(1), x, np.zeros(len(x), np.int64))[:, 0, 0, 0] == 0
    )

    assert blocked.any()
    assert not blocked.all()


def test_gradient_maps_are_those_of_the_fake_quantized_network(quantized):
    model, _, x = quantized
    twin = Surrogate(model)
    plain = session(model).run(None, {"input": x})[0]
    target = plain.argmax(1)

    found = ran(build(model, "gradient"), x)
    assert near(found["explain"], slope(twin, x, target))
    times = ran(build(model, "input_x_gradient"), x, target)
    assert near(times["explain"], x * slope(twin, x, target))
    assert np.abs(plain - twin(torch.tensor(x)).numpy()).max() < 0.02 * np.ptp(plain)


def test_path_and_noise_maps_are_those_of_the_fake_quantized_network(quantized):
    model, _, x = quantized
    twin, target = Surrogate(model), np.arange(len(x)) % 5

    path = ran(build(model, "integrated_gradients"), x, target)
    mean = sum(
        w * slope(twin, np.float32(a) * x, target)
        for a, w in zip(path["path"], path["path_weight"], strict=True)
    )
    assert near(path["explain"], x * mean)
    noisy = ran(build(model, "smoothgrad"), x, target)
    width = np.float32(0.15) * (x.max((1, 2, 3)) - x.min((1, 2, 3))).reshape(-1, 1, 1, 1)
    assert near(
        noisy["explain"], np.mean([slope(twin, x + width * draw, target) for draw in noisy["noise"]], axis=0)
    )


def test_gradcam_is_that_of_the_fake_quantized_network_at_the_layer_of_the_same_name(quantized):
    model, exact, x = quantized
    twin, target = Surrogate(model), np.arange(len(x)) % 5
    graph = build(model, "gradcam")
    a = twin.features(torch.tensor(x)).detach()
    alpha = slope(twin.head, a.numpy(), target).mean((2, 3), keepdims=True)

    assert graph.layer == build(exact, "gradcam").layer == "relu2"
    assert near(ran(graph, x, target)["explain"], np.maximum((alpha * a.numpy()).sum(1, keepdims=True), 0))


def test_no_integers_are_offered_as_a_feature_map(quantized):
    model, _, _ = quantized
    with pytest.raises(NotApplicableError) as caught:
        build(model, "gradcam", layer="relu1.quantized")

    assert "Known: conv1, relu1, pool.exact, pool, conv2, relu2" in str(caught.value)


@pytest.mark.parametrize("method", sorted(set(EXPLAINERS) - REFUSED))
def test_every_method_that_works_says_whether_roundings_were_passed_and_proves_itself(quantized, method):
    model, _, x = quantized
    graph = build(model, method)

    assert graph.gradient_ste == (method not in WITHOUT_GRADIENT)
    assert graph.completeness == (method == "integrated_gradients")
    record = verify(graph, model, x[:2], None)
    assert record.cosine_to_float64 > 0.9999
    assert record.frozen_map == "passed"


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_what_a_quantized_network_cannot_give_is_refused(quantized, method):
    with pytest.raises(NotApplicableError, match=r"QuantizeLinear|piecewise linear"):
        build(quantized[0], method)


def test_a_float_network_passes_no_rounding(quantized):
    assert not build(quantized[1], "gradient").gradient_ste


def test_the_explain_graph_answers_as_the_quantized_network(quantized):
    model, _, x = quantized
    plain = session(model).run(None, {"input": x})[0]
    apart = np.abs(ran(build(model, "gradient"), x)["logits"] - plain)

    # Float kernels in the one, integer kernels in the other: equal but where a value lies between two integers.
    assert np.median(apart) < 1e-5
    assert apart.max() < 0.02 * np.ptp(plain)


def test_the_frozen_surrogate_equals_the_network_at_its_inputs_and_repeats_for_each_batch(quantized):
    model, _, x = quantized
    inputs = x[:3].astype(np.float64)
    frozen = Float64Twin(frozen_rounding(model, inputs))
    exact = Float64Twin(model).run({"input": inputs})["logits"]

    assert np.allclose(
        frozen.run({"input": np.concatenate([inputs, inputs])})["logits"], np.tile(exact, (2, 1)), atol=1e-9
    )
    moved = frozen.run({"input": inputs + 1e-4})["logits"]
    assert np.all(np.abs(moved - exact).max(1) > 0)  # where the network itself stands still
    assert np.array_equal(Float64Twin(model).run({"input": inputs + 1e-9})["logits"], exact)


def test_a_float_model_has_nothing_to_freeze(quantized):
    _, exact, x = quantized
    assert frozen_rounding(exact, x[:2]) is exact


@pytest.mark.parametrize(
    "method", ["gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "gradcam"]
)
def test_finite_differences_of_the_surrogate_prove_the_map_and_see_a_wrong_one(quantized, method):
    model, _, x = quantized
    graph = build(model, method)
    assert difference_error(graph, model, x[:2]) < 1e-6

    # Without the mask of what was clipped: every comparison of a clipped with an unclipped value says yes.
    clipped = {node.output[0] for node in graph.model.graph.node if node.op_type == "Clip"}
    for node in graph.model.graph.node:
        if node.op_type == "Equal" and node.input[0] in clipped:
            node.input[0] = node.input[1]
    assert difference_error(graph, model, x[:2]) > 1e-3
