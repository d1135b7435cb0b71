import numpy as np
import pytest
import torch

from clearweight.exporter.explain import NotApplicableError, build
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.objective.attribution_matching import equally_weighted_map, sensitivity_weighted_map
from tests.exporter.explain.perturbing import inputs_of, run

LAYERS = [("cnn", "pool1"), ("cnn", "conv2"), ("residual", "conv2"), ("wave", "conv2"), ("plain", "relu2")]
METHODS = ("gradcam", "gradcam_plus_plus", "ewa", "swa")


def explained(network, method, layer, x, target):
    graph = build(network.model, method, layer=layer)
    return run(graph, inputs_of(graph, x, target))["explain"]


def features(network, layer, x, target):
    """A layer's output and the gradient of the target logits to it, as float64 arrays."""
    kept = []
    handle = dict(network.module.named_modules())[layer].register_forward_hook(
        lambda *call: kept.append(call[2].requires_grad_())
    )
    logits = network.module(torch.tensor(x))
    handle.remove()
    score = logits.gather(1, torch.as_tensor(target)[:, None]).sum()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0]


def slow_gradcam_plus_plus(a, g):
    """Equations 10, 13 and 19, place by place; of one sample (K, *space)."""
    total = np.zeros(a.shape[1:])
    for k in range(len(a)):
        weight = 0.0
        for place in np.ndindex(*a.shape[1:]):
            slope = g[k][place]
            below = 2 * slope**2 + a[k].sum() * slope**3
            weight += (slope**2 / below if below != 0 else 0.0) * max(slope, 0.0)
        total += weight * a[k]
    return np.maximum(total, 0)[None]


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_gradcam_plus_plus_is_the_papers(named, name, layer):
    network = named(name)
    x, target = network.samples(3), np.array([0, 1, 2])
    a, g = (value.double().numpy() for value in features(network, layer, x, target))
    expected = np.stack([slow_gradcam_plus_plus(*pair) for pair in zip(a, g, strict=True)])

    np.testing.assert_allclose(
        explained(network, "gradcam_plus_plus", layer, x, target), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_ewa_and_swa_are_the_maps_that_the_objective_preserves(named, name, layer):
    network = named(name)
    x, target = network.samples(3), np.array([0, 1, 2])
    a, g = features(network, layer, x, target)

    np.testing.assert_allclose(
        explained(network, "ewa", layer, x, target)[:, 0], equally_weighted_map(a), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        explained(network, "swa", layer, x, target)[:, 0],
        sensitivity_weighted_map(a, g),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_swa_is_gradcam_times_the_number_of_places(named, name, layer):
    network = named(name)
    x, target = network.samples(3), np.array([0, 1, 2])
    swa, gradcam = (explained(network, method, layer, x, target) for method in ("swa", "gradcam"))

    np.testing.assert_allclose(swa, gradcam * np.prod(swa.shape[2:]), rtol=1e-4, atol=1e-6)


def test_ewa_is_the_same_for_every_class_and_differentiates_nothing(named):
    network = named("cnn")
    x = network.samples(2)
    graph = build(network.model, "ewa")

    np.testing.assert_array_equal(
        run(graph, inputs_of(graph, x, [0, 0]))["explain"], run(graph, inputs_of(graph, x, [3, 1]))["explain"]
    )
    assert not {node.op_type for node in graph.model.graph.node} & {
        "ConvTranspose",
        "MaxUnpool",
        "HardSigmoid",
    }


def test_a_gradient_of_zero_weighs_nothing(named):
    """A dead channel: 0 / 0 in equation 19."""
    import onnx

    network = named("plain")
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for tensor in model.graph.initializer:
        if tensor.name == "fc2.weight":
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name)
            )
    graph = build(model, "gradcam_plus_plus")

    assert not run(graph, inputs_of(graph, network.samples(2), [0, 1]))["explain"].any()


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_a_feature_map_is_refused(named, method):
    with pytest.raises(NotApplicableError, match="feature map"):
        build(named("mlp").model, method)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_none_is_named_with_the_known_ones(named, method):
    with pytest.raises(NotApplicableError, match=r"'nowhere'.*pool2"):
        build(named("cnn").model, method, layer="nowhere")


class HeadsInTheBatch(torch.nn.Module):
    """A convolution whose map is then cut into heads that stand in the batch axis, as attention does it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.head = torch.nn.Linear(4 * 36, 3)

    def forward(self, x):
        h = torch.relu(self.conv(x))
        split = h.reshape(-1, 2, 6, 6) * 2
        return self.head(split.reshape(x.shape[0], -1))


def test_a_value_whose_first_axis_is_not_the_batch_is_no_feature_map():
    torch.manual_seed(0)
    module = HeadsInTheBatch().eval()
    model = to_onnx(module, torch.zeros(2, 1, 6, 6))
    x, target = np.random.default_rng(0).random((3, 1, 6, 6), np.float32), np.array([0, 1, 2])

    graph = build(model, "gradcam")
    found = run(graph, {"input": x, "target": target})["explain"]

    assert found.shape == (3, 1, 6, 6)
    a = torch.relu(module.conv(torch.tensor(x))).detach().requires_grad_()
    logits = module.head((a.reshape(-1, 2, 6, 6) * 2).reshape(3, -1))
    (g,) = torch.autograd.grad(logits.gather(1, torch.as_tensor(target)[:, None]).sum(), a)
    expected = torch.relu((g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True)).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


class Tokens(torch.nn.Module):
    """Patches, one attention by heads over them, a mean."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(1, 8, 2, stride=2)
        self.linear = torch.nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        mixed = (heads @ heads.transpose(2, 3)).softmax(-1) @ heads
        return self.linear(mixed.transpose(1, 2).flatten(2).mean(1))


def test_heads_of_tokens_are_no_feature_map():
    model = to_onnx(Tokens().eval(), torch.zeros(2, 1, 8, 8))

    graph = build(model, "gradcam")

    assert graph.layer == "patches"
    assert graph.map_shape == (-1, 1, 4, 4)
