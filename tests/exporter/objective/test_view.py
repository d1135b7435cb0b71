"""What terms look at exists for a network in training and for the frozen reference alike."""

import pytest
import torch
from torch import nn

from clearweight.exporter.objective.term import Needs
from clearweight.exporter.objective.view import view

INPUTS = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def seen(network, needs, *, keep_graph=False):
    return view(network, network, INPUTS, needs, keep_graph=keep_graph)


def test_feature_gradients_are_those_of_the_top_logit(network):
    """By hand: behind the feature map only a linear layer follows, so the gradient is the row of the top class."""
    found = seen(network, Needs(features=frozenset({"1"}), feature_gradients=True))

    rows = network[3].weight[found.logits.argmax(1)].reshape(3, 4, 4, 4)
    torch.testing.assert_close(found.feature_gradients["1"], rows.detach())


@pytest.mark.parametrize("inputs", [False, True])
def test_a_frozen_network_has_the_same_feature_gradients(network, inputs):
    needs = Needs(features=frozenset({"1"}), feature_gradients=True, input_gradient=inputs)
    free = seen(network, needs)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    frozen = seen(network, needs)

    torch.testing.assert_close(frozen.feature_gradients["1"], free.feature_gradients["1"])
    assert not frozen.feature_gradients["1"].requires_grad


def test_without_gradients_nothing_is_asked_for(network):
    found = seen(network, Needs(features=frozenset({"1"})), keep_graph=True)

    assert found.feature_gradients == {}
    assert found.input_map is None
    assert found.features["1"].shape == (3, 4, 4, 4)
