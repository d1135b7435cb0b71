import captum.attr
import numpy as np
import pytest
import torch

from clearweight.exporter.autodiff import RULES
from clearweight.exporter.explain import NotApplicableError, build
from clearweight.exporter.explain.rectifier import RECTIFIERS
from tests.exporter.explain.perturbing import inputs_of, run
from tests.exporter.explain.zennit_rules import attributed, zennit

METHODS = ("guided_backprop", "deconvnet")


def explained(network, method, x, target):
    graph = build(network.model, method)
    return run(graph, inputs_of(graph, x, target))["explain"]


def slow_mlp(network, x, target, method):
    """The way back through two layers, written out."""
    w1, b1, w2 = (getattr(network.module, layer).weight.double().numpy() for layer in ("fc1", "fc1", "fc2"))
    b1 = network.module.fc1.bias.double().numpy()
    maps = []
    for row, c in zip(x, target, strict=True):
        z = w1 @ row.ravel().astype(np.float64) + b1
        back = np.maximum(w2[c], 0)
        if method == "guided_backprop":
            back = back * (z > 0)
        maps.append((w1.T @ back).reshape(row.shape))
    return np.stack(maps)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_papers_rule_on_two_layers(named, method):
    network = named("mlp")
    x, target = network.samples(4), np.array([0, 1, 2, 3])

    np.testing.assert_allclose(
        explained(network, method, x, target), slow_mlp(network, x, target, method), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("method", "oracle"),
    [("guided_backprop", captum.attr.GuidedBackprop), ("deconvnet", captum.attr.Deconvolution)],
)
def test_it_is_captums(named, method, oracle):
    network = named("plain")
    x, target = network.samples(4), torch.tensor([0, 1, 2, 0])
    with pytest.warns(UserWarning, match="Setting"):
        expected = oracle(network.module).attribute(torch.tensor(x, requires_grad=True), target=target)

    np.testing.assert_allclose(
        explained(network, method, x, target.numpy()), expected.detach(), rtol=1e-4, atol=1e-7
    )


@zennit
@pytest.mark.parametrize(
    ("method", "composite"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "DeconvNet")]
)
def test_it_is_zennits(named, method, composite):
    network = named("plain")
    x, target = network.samples(4), np.array([0, 1, 2, 0])
    expected = attributed(network.module, x, np.eye(3)[target], lambda z: getattr(z.composites, composite)())

    np.testing.assert_allclose(explained(network, method, x, target), expected, rtol=1e-4, atol=1e-7)


def test_other_rectifiers_pass_the_positive_part_times_their_slope(named):
    """Leaky ReLU and ReLU6 of the small CNN, by torch's own derivative of each and a clamped gradient."""
    network = named("cnn")
    x = network.samples(3)
    given = torch.tensor(x, requires_grad=True)
    module, f = network.module, torch.nn.functional

    def guided(value):
        value.register_hook(torch.relu)
        return value

    h = module.pool1(guided(torch.relu(module.bn1(module.conv1(given)))))
    h = module.pool2(guided(f.leaky_relu(module.conv2(h))))
    logits = module.fc2(guided(f.relu6(module.fc1(torch.flatten(h, 1)))))
    logits[:, 1].sum().backward()

    np.testing.assert_allclose(
        explained(network, "guided_backprop", x, [1, 1, 1]), given.grad, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["affine", "smooth"])
def test_a_network_without_rectifiers_is_refused(named, method, name):
    with pytest.raises(NotApplicableError, match="none between 'input' and 'logits'"):
        build(named(name).model, method)


def test_every_rectifier_has_a_rule():
    assert {key.op_type for key in RULES} >= RECTIFIERS
