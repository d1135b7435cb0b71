import copy

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from clearweight.exporter.evaluate import gradient, input_x_gradient
from clearweight.exporter.evaluate.randomization import layers_by_use, randomization


def summed(module, images, targets):
    return gradient(module, images, targets).sum(1)


def test_each_stage_leaves_one_more_layer_random_from_the_output_down(reference, images, targets):
    seen = []

    def explain(module, x, c):
        seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return summed(module, x, c)

    result = randomization(reference, images, targets, explain)
    trained = reference.state_dict()
    changed = [{name for name in state if not torch.equal(state[name], trained[name])} for state in seen]

    head = {"fc.weight", "fc.bias"}
    assert changed == [set(), head, {*head, "conv.weight", "conv.bias"}]
    assert torch.equal(seen[1]["fc.weight"], seen[2]["fc.weight"])
    assert result.layers == ("", "fc", "conv")
    assert result.spearman[0] == result.ssim[0] == pytest.approx(1)


def test_the_rank_correlation_is_that_of_the_maps(reference, images, targets):
    result = randomization(reference, images, targets, summed, seed=4)
    own = copy.deepcopy(reference)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        own.fc.reset_parameters()
    pairs = zip(summed(reference, images, targets), summed(own, images, targets), strict=True)
    expected = np.mean([scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs])

    assert result.spearman[1] == pytest.approx(expected)


def test_gradients_do_not_outlive_the_weights_and_what_ignores_them_does(reference, images, targets):
    honest = randomization(reference, images, targets, summed)
    edges = randomization(reference, images, targets, lambda _module, x, _c: x.sum(1).numpy())

    assert abs(honest.remaining) < 0.3
    assert max(honest.ssim[1:]) < 0.8
    assert edges.remaining == edges.ssim[-1] == pytest.approx(1)


def test_many_layers_are_taken_several_at_a_time(images, targets):
    module = nn.Sequential(nn.Flatten(), *[nn.Linear(120, 120) for _ in range(10)], nn.Linear(120, 4))
    result = randomization(module, images, targets, summed, stages=4)

    assert result.layers == ("", "9", "6", "4", "1")


def test_the_order_is_that_of_use_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.norm, self.first = nn.Linear(3, 2), nn.BatchNorm1d(3), nn.Linear(4, 3)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            return self.last(self.norm(self.first(x)))

    names = [name for name, _ in layers_by_use(Backwards().eval(), torch.zeros(1, 4))]

    assert names == ["first", "norm", "last"]


def test_neither_the_model_nor_the_random_state_is_touched(reference, images, targets):
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    state = torch.random.get_rng_state()
    first = randomization(reference, images, targets, lambda m, x, c: input_x_gradient(m, x, c).sum(1))
    second = randomization(reference, images, targets, lambda m, x, c: input_x_gradient(m, x, c).sum(1))

    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())
