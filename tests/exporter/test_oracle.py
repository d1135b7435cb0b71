"""The oracle against finite differences and the papers' formulas: it vouches for the graphs, so who vouches for it?"""

import copy

import numpy as np
import pytest
import torch

from clearweight.exporter.explain import EXPLAINERS, build
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.oracle import FEATURE_MAPS, INPUT_MAPS, oracle
from tests.exporter.explain.networks import build_network


@pytest.fixture(scope="module")
def network():
    return build_network("plain", to_onnx)


def made(network, method, x, target, inputs=None, **choice):
    graph = build(network.model, method, **choice)
    return oracle(network.module, graph, network.model)(x, np.asarray(target), inputs or {})


def slopes(module, x, target):
    """Central differences of the target logit in float64, one element at a time."""
    double = copy.deepcopy(module).double()
    found = np.zeros(x.shape)
    with torch.no_grad():
        for at in np.ndindex(x.shape):
            up, down = x.astype(np.float64), x.astype(np.float64)
            up[at] += 1e-6
            down[at] -= 1e-6
            pair = double(torch.tensor(np.concatenate([up, down])))[:, target]
            found[at] = float(pair[0] - pair[1]) / 2e-6
    return found


def test_input_level_maps_are_finite_differences(network):
    x = network.samples(1)
    slope = slopes(network.module, x, 2)

    np.testing.assert_allclose(made(network, "gradient", x, [2]), slope, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(made(network, "input_x_gradient", x, [2]), slope * x, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(made(network, "linearization", x, [0])[:, 2], slope, rtol=1e-3, atol=1e-6)


def test_a_path_of_one_point_is_the_gradient_there(network):
    x, low = network.samples(1), network.samples(1, seed=1)
    inputs = {"baseline": low, "path": np.float32([0.25]), "path_weight": np.float32([1])}
    slope = slopes(network.module, low + np.float32(0.25) * (x - low), 1)

    np.testing.assert_allclose(
        made(network, "integrated_gradients", x, [1], inputs), (x - low) * slope, rtol=1e-3, atol=1e-6
    )


def test_two_draws_give_mean_and_variance(network):
    x = network.samples(1)
    noise = network.samples(2, seed=2)
    both = [slopes(network.module, (x + 0.15 * np.ptp(x) * one).astype(np.float32), 1) for one in noise]

    np.testing.assert_allclose(
        made(network, "smoothgrad", x, [1], {"noise": noise}), np.mean(both, 0), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        made(network, "vargrad", x, [1], {"noise": noise}), np.var(both, 0), rtol=1e-2, atol=1e-7
    )


def test_every_feature_level_method_that_differentiates_has_an_oracle():
    feature_level = {m for m, e in EXPLAINERS.items() if e.resolution == "feature"}

    assert set(FEATURE_MAPS) == feature_level - {"reciprocam"}
    assert set(INPUT_MAPS) <= set(EXPLAINERS) - feature_level


def test_a_value_that_no_module_returns_has_no_oracle():
    network = build_network("residual", to_onnx)
    graph = build(network.model, "gradcam")

    assert graph.layer == "relu_3"
    assert oracle(network.module, graph, network.model) is None
    named = build(network.model, "gradcam", layer="conv2")
    assert oracle(network.module, named, network.model) is not None


def test_an_activation_that_torch_and_onnx_write_differently_has_no_oracle():
    """A softplus is one rectifier in ONNX; the oracle does not know it and says so by being none."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Softplus(), torch.nn.Linear(5, 3)).eval()
    model = to_onnx(module, torch.zeros(2, 4))

    assert oracle(module, build(model, "guided_backprop"), model) is None
    assert oracle(module, build(model, "gradient"), model) is not None


def test_the_module_is_left_as_it_was(network):
    x = network.samples(2)
    before = network.module(torch.tensor(x)).detach()
    for method in ("deconvnet", "guided_backprop", "gradcam"):
        made(network, method, x, [0, 1], layer="conv2") if method == "gradcam" else made(
            network, method, x, [0, 1]
        )

    assert torch.equal(network.module(torch.tensor(x)).detach(), before)
    assert not any(m._forward_hooks for m in network.module.modules())
