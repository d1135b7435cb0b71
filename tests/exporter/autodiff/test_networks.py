"""Whole networks: torch module to ONNX to gradient graph, with an open batch, against torch autograd."""

import numpy as np
import onnx
import pytest
import torch

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES, Emit, Graph, pull_back
from clearweight.exporter.graph import session, to_onnx
from tests.exporter.autodiff.networks import NETWORKS, network

BATCH = 3  # the exporter's example has two rows


def gradient_model(model):
    """Logits and the gradient of ``dy . logits`` with respect to the input."""
    graph = Graph(model)
    (x,), (logits,) = graph.inputs, graph.outputs
    graph.add_input("dy", graph.type(logits))
    found = pull_back(Emit(graph), {logits: "dy"}, [x], RULES, NON_DIFFERENTIABLE)
    graph.export(found[x], "dx")
    return graph.model(["dy"], [logits, "dx"])


# Exporting takes most of the time, so in every run only those that together have every operator.
ALWAYS = {"mobilenet_v3", "unet", "vision_transformer", "gated_mlp", "odds"}


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_gradient_agrees_with_torch(name):
    module = network(name)
    model = to_onnx(module, torch.zeros(2, *NETWORKS[name].shape))
    made = gradient_model(model)
    onnx.checker.check_model(made, full_check=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *NETWORKS[name].shape)).astype(np.float32)
    dy = rng.normal(size=(BATCH, 5)).astype(np.float32)
    logits, dx = session(made).run(None, {made.graph.input[0].name: x, "dy": dy})

    source = torch.tensor(x, requires_grad=True)
    aim = module(source)
    aim.backward(torch.tensor(dy))
    expected = source.grad.numpy()
    np.testing.assert_allclose(
        logits, aim.detach().numpy(), rtol=0, atol=1e-4 * float(aim.detach().abs().max())
    )
    for got, own in zip(dx.reshape(BATCH, -1), expected.reshape(BATCH, -1), strict=True):
        assert np.abs(own).max() > 0
        assert got @ own / (np.linalg.norm(got) * np.linalg.norm(own)) >= 0.9999
        # A kink may flip between the two sums of float32, so the last thousandth is left out.
        assert np.quantile(np.abs(got - own), 0.999) <= 1e-4 * np.abs(own).max()
