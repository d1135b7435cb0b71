"""Training through the quantizer, against its rule written out entry by entry."""

import copy

import numpy as np
import pytest
import torch
from torch import Generator, nn

from clearweight.exporter.compress import EntropyConstrained, EntropyConstrainedConfig, Workbench
from clearweight.exporter.compress.rate_quantizer import entropy_bits, quantize_to_rate
from clearweight.exporter.compress.straight_through import EVERY, FOLLOWING, StraightThrough
from clearweight.exporter.training import FineTuning

BITS = 1.5


@pytest.fixture
def weight():
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(20, 10))


def held_by(weight, mask=None):
    """What is trained through, and the importances and the multiplier of its beginning."""
    alive = weight.detach() if mask is None else weight.detach() * mask
    importance = {"w": np.random.default_rng(0).uniform(0.5, 2.0, 200)}
    start, multiplier = quantize_to_rate({"w": alive.double().numpy().ravel()}, importance, 7, BITS)
    held = StraightThrough({"w": weight}, {"w": mask}, start, importance, multiplier, BITS)
    return held, start["w"], importance["w"], multiplier


def test_a_step_moves_the_free_values_and_shows_the_cheapest_symbols(weight):
    free = weight.detach().double().numpy().ravel()
    held, start, importance, multiplier = held_by(weight)
    shown = weight.detach().clone()
    np.testing.assert_allclose(shown.numpy().ravel(), start.codebook[start.indices], rtol=1e-6)
    move = 0.3 * torch.randn(20, 10)

    with torch.no_grad():
        weight += move
    held.step(1, 100)

    counts = np.bincount(start.indices, minlength=len(start.codebook))
    for value, worth, now in zip(
        free + move.double().numpy().ravel(), importance, weight.detach().ravel(), strict=True
    ):
        costs = [
            worth * (value - symbol) ** 2 - multiplier * np.log2(max(count, 1) / 200)
            for symbol, count in zip(start.codebook, counts, strict=True)
        ]
        assert float(now) == pytest.approx(start.codebook[int(np.argmin(costs))], rel=1e-5)


def test_symbols_become_means_and_the_multiplier_follows_now_and_then(weight):
    held, start, importance, multiplier = held_by(weight)

    held.step(1, 100)
    assert held._multiplier == multiplier
    np.testing.assert_allclose(held._books["w"], start.codebook, rtol=1e-6)
    chosen = held._chosen["w"].numpy()
    kept = held._kept["w"].numpy().ravel()
    held.step(EVERY, 100)

    assert held._multiplier in (multiplier * FOLLOWING, multiplier / FOLLOWING)
    assert held._books["w"][0] == 0.0
    for symbol in range(1, len(start.codebook)):
        members = chosen == symbol
        expected = (
            np.average(kept[members], weights=importance[members])
            if members.any()
            else start.codebook[symbol]
        )
        assert float(held._books["w"][symbol]) == pytest.approx(expected, rel=1e-5)


def test_what_is_pruned_stays_zero(weight):
    mask = torch.rand(20, 10, generator=Generator().manual_seed(1)) < 0.4
    held, *_ = held_by(weight, mask)

    with torch.no_grad():
        weight += 1.0
    held.step(EVERY, 100)

    assert (weight[~mask] == 0).all()
    assert (weight[mask] != 0).any()


def test_what_comes_out_is_what_the_network_holds_within_the_rate(weight):
    held, *_ = held_by(weight)
    with torch.no_grad():
        weight += torch.randn(20, 10)
    held.step(1, 100)

    found = held.quantized()["w"]

    assert entropy_bits(found.indices) <= BITS * 200
    np.testing.assert_allclose(weight.detach().numpy().ravel(), found.codebook[found.indices], rtol=1e-6)


def test_the_step_trained_through_loses_less_at_the_same_rate(bench: Workbench, tiny_model):
    def loss(**training):
        model = copy.deepcopy(tiny_model)
        step = EntropyConstrained(
            EntropyConstrainedConfig(bits_per_weight=1.2, symbols=7, statistic_samples=32, **training)
        )
        step.apply(model, bench)
        step.ensure(model)
        inputs, labels = bench.samples.inputs, bench.samples.labels
        found = bench.objective.loss(model, model, inputs, labels, Generator().manual_seed(0))
        return float(found.detach())

    tuning = FineTuning(epochs=10, learning_rate=0.003, batch_size=32)

    assert loss(straight_through=tuning) < loss(fine_tune=tuning)
