"""Allocation of survivors, against picking one by one and against the Lagrangian it stands for."""

import itertools

import numpy as np
import pytest
import torch

from clearweight.exporter.compress.allocation import (
    VALUE_BITS,
    global_masks,
    kept_count,
    marginal_bits,
    rate_masks,
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


def test_kept_count_never_empties_a_tensor():
    assert kept_count(10, 1e-6) == 1


def test_global_masks_share_one_budget_but_leave_every_tensor_a_weight():
    saliencies = {"a": torch.tensor([9.0, 8.0, 7.0]), "b": torch.tensor([0.1, 0.2])}

    masks = global_masks(saliencies, 0.6)

    assert masks["a"].tolist() == [True, True, True]
    assert masks["b"].tolist() == [False, True]


def entropy(p):
    return -sum(q * np.log2(q) for q in (p, 1 - p) if q > 0)


def test_marginal_bits_are_the_derivative_of_value_and_place_bits():
    n, kept = 1000, 80

    def bits(k):
        return VALUE_BITS * k + n * entropy(k / n)

    assert marginal_bits(kept / n) == pytest.approx((bits(kept + 1) - bits(kept - 1)) / 2, rel=1e-3)


def test_rate_masks_reach_the_least_distortion_of_all_allocations_of_their_bits():
    """Every split of the survivors over two tensors, by brute force: none with as few bits distorts less."""
    generator = torch.Generator().manual_seed(0)
    saliencies = {
        "wide": torch.rand(120, generator=generator) ** 8,
        "narrow": torch.rand(24, generator=generator) ** 2,
    }

    def cost(kept):
        return sum(
            VALUE_BITS * k + saliencies[n].numel() * entropy(k / saliencies[n].numel())
            for n, k in kept.items()
        )

    def distortion(kept):
        return sum(float(s.sort(descending=True).values[kept[n] :].sum()) for n, s in saliencies.items())

    own = {n: int(m.sum()) for n, m in rate_masks(saliencies, 0.2).items()}
    cheaper = [
        dict(zip(saliencies, split, strict=True))
        for split in itertools.product(range(1, 60), range(1, 13))
        if cost(dict(zip(saliencies, split, strict=True))) <= cost(own)
    ]

    # One weight more or less is the grain of the search.
    assert distortion(own) <= min(map(distortion, cheaper)) * 1.03
    assert len(cheaper) > 50


def test_rate_masks_of_equal_tensors_are_global_masks():
    values = torch.rand(40, generator=torch.Generator().manual_seed(1))
    saliencies = {"a": values[:20], "b": values[20:] * 1.001}

    by_rate, by_threshold = rate_masks(saliencies, 0.3), global_masks(saliencies, 0.3)

    assert sum(int(m.sum()) for m in by_rate.values()) == sum(int(m.sum()) for m in by_threshold.values())


def test_rate_masks_never_bring_a_dropped_weight_back():
    saliencies = {"a": torch.tensor([1.0, -1.0, 0.5, -1.0]), "b": torch.tensor([-1.0, 2.0])}

    masks = rate_masks(saliencies, 0.5)

    assert not masks["a"][1]
    assert not masks["a"][3]
    assert not masks["b"][0]
