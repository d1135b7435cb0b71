"""Pruning, checked against plain loops and on a network small enough to do by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import Prune, PruneConfig, Workbench
from clearweight.exporter.compress.allocation import kept_count
from clearweight.exporter.compress.constraint import mask_of, put_mask, value_of
from clearweight.exporter.compress.prune import cubic_density
from clearweight.exporter.compress.saliency import RULES


def test_cubic_density_starts_dense_ends_at_the_target_and_never_rises():
    path = [cubic_density(0.05, step / 20) for step in range(25)]

    assert path[0] == 1.0
    assert path[20:] == pytest.approx([0.05] * 5)
    assert all(a >= b for a, b in pairwise(path))


@pytest.mark.parametrize("criterion", [*RULES, "first_order"])
@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("scope", ["layer", "global", "rate"])
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
            statistic_samples=16,
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
