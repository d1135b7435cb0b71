"""Pruning, checked against plain loops and on a network small enough to do by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import Prune, PruneConfig, Workbench
from clearweight.exporter.compress.constraint import free_value, mask_of, put_mask, value_of
from clearweight.exporter.compress.prune import (
    FirstOrderSaliency,
    cubic_density,
    global_masks,
    kept_count,
    top_mask,
)


def slow_top(values, keep):
    """Pick the largest one after the other, the lowest index first among equals."""
    flat = list(values.flatten())
    mask = [False] * len(flat)
    for _ in range(keep):
        best = max((i for i in range(len(flat)) if not mask[i]), key=lambda i: (flat[i], -i))
        mask[best] = True
    return np.array(mask).reshape(values.shape)


@pytest.mark.parametrize("keep", [1, 3, 7, 12])
def test_top_mask_equals_picking_one_by_one_with_ties_to_the_lower_index(keep):
    saliency = torch.tensor([[3.0, 1.0, 3.0, 0.0], [1.0, 3.0, 0.0, 0.0], [2.0, 2.0, 1.0, 0.0]])

    mask = top_mask(saliency, keep)

    assert np.array_equal(slow_top(saliency.numpy(), keep), mask.numpy())


def test_cubic_density_starts_dense_ends_at_the_target_and_never_rises():
    path = [cubic_density(0.05, step / 20) for step in range(25)]

    assert path[0] == 1.0
    assert path[20:] == pytest.approx([0.05] * 5)
    assert all(a >= b for a, b in pairwise(path))


def test_kept_count_never_empties_a_tensor():
    assert kept_count(10, 1e-6) == 1


def test_global_masks_share_one_budget_but_leave_every_tensor_a_weight():
    saliencies = {"a": torch.tensor([9.0, 8.0, 7.0]), "b": torch.tensor([0.1, 0.2])}

    masks = global_masks(saliencies, 0.6)

    assert masks["a"].tolist() == [True, True, True]
    assert masks["b"].tolist() == [False, True]


def test_first_order_saliency_is_the_running_mean_of_the_squared_weight_times_gradient():
    layer = nn.Linear(3, 2, bias=False)
    put_mask(layer, "weight", torch.ones(2, 3, dtype=torch.bool))
    saliency = FirstOrderSaliency(layer, ["weight"], decay=0.9)
    expected = np.zeros((2, 3))
    for seed in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        layer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        w = free_value(layer, "weight").detach().double().numpy()
        # d/dW sum (x W')^2 = 2 (x W')' x, by hand.
        by_hand = 2 * (x.double().numpy() @ w.T).T @ x.double().numpy()
        expected = 0.9 * expected + 0.1 * (w * by_hand) ** 2
        saliency.update()

    assert np.allclose(expected, saliency.values()["weight"].numpy(), rtol=1e-4)


@pytest.mark.parametrize("criterion", ["magnitude", "first_order"])
@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_every_combination_reaches_its_density_and_keeps_dropped_weights_at_zero(
    bench: Workbench, tiny_model, criterion, schedule, scope
):
    step = Prune(
        PruneConfig(
            density=0.25,
            criterion=criterion,
            schedule=schedule,
            scope=scope,
            update_every=2,
            fine_tune={"epochs": 2, "batch_size": 32},
        )
    )

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    weights = ["1.weight", "3.weight"]
    kept = sum(int((value_of(tiny_model, n) != 0).sum()) for n in weights)
    total = sum(value_of(tiny_model, n).numel() for n in weights)
    assert kept <= kept_count(total, 0.25) + 2
    assert kept >= 0.2 * total


def test_masks_only_shrink_during_the_cubic_schedule(bench: Workbench, tiny_model, monkeypatch):
    seen = []
    original = Prune._masks

    def spy(self, saliency, densities):
        masks = original(self, saliency, densities)
        seen.append({k: v.clone() for k, v in masks.items()})
        return masks

    monkeypatch.setattr(Prune, "_masks", spy)
    Prune(
        PruneConfig(
            density=0.2, criterion="first_order", update_every=1, fine_tune={"epochs": 2, "batch_size": 32}
        )
    ).apply(tiny_model, bench)

    assert len(seen) > 3
    for before, after in pairwise(seen):
        for name in before:
            assert not (after[name] & ~before[name]).any()


def test_one_shot_first_order_looks_before_it_prunes_and_moves_nothing(bench: Workbench, tiny_model):
    before = value_of(tiny_model, "1.weight").detach().clone()
    step = Prune(
        PruneConfig(
            density=0.5,
            criterion="first_order",
            schedule="one_shot",
            fine_tune={"epochs": 1, "batch_size": 32, "learning_rate": 1e-30, "optimizer": "sgd"},
        )
    )

    step.apply(tiny_model, bench)

    mask = mask_of(tiny_model, "1.weight")
    assert torch.equal(value_of(tiny_model, "1.weight"), before * mask)


def test_a_pattern_that_matches_nothing_is_an_error_that_lists_the_weights(bench: Workbench, tiny_model):
    step = Prune(PruneConfig(density={"conv9.*": 0.5}, fine_tune={"epochs": 1, "batch_size": 32}))

    with pytest.raises(ConstraintError, match=r"conv9.*1\.weight, 3\.weight"):
        step.apply(tiny_model, bench)


def test_ensure_notices_a_weight_that_grew_back(bench: Workbench, tiny_model):
    step = Prune(PruneConfig(density=0.1, schedule="one_shot", fine_tune={"epochs": 1, "batch_size": 32}))
    step.apply(tiny_model, bench)
    put_mask(tiny_model, "1.weight", torch.ones_like(value_of(tiny_model, "1.weight"), dtype=torch.bool))

    with pytest.raises(ConstraintError, match=r"1\.weight"):
        step.ensure(tiny_model)


def test_dropped_negative_weights_are_plain_zeros():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[-1.0, -2.0]])

    put_mask(layer, "weight", torch.tensor([[False, True]]))

    assert not np.signbit(value_of(layer, "weight").detach().numpy())[0, 0]
