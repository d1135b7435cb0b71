"""Infidelity against a loop after the paper, and Captum's."""

import captum.metrics
import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.evaluate.infidelity import infidelity, removed_windows


def slow_infidelity(module, image, target, scores, masks, *, normalized):
    told, lost = [], []
    with torch.no_grad():
        whole = module(image[None])[0, target].item()
        for mask in masks:
            left = module((image * torch.tensor(1 - mask).float())[None])[0, target].item()
            told.append(float((mask * scores).sum()))
            lost.append(whole - left)
    told, lost = np.array(told), np.array(lost)
    if not normalized:
        return np.mean((told - lost) ** 2)
    return np.mean((told @ lost / (told @ told) * told - lost) ** 2) / np.mean(lost**2)


@pytest.mark.parametrize("normalized", [True, False])
def test_it_equals_the_slow_twin(reference, images, targets, normalized):
    maps = np.random.default_rng(3).normal(size=(9, 6, 10)).astype(np.float32)
    masks = removed_windows((6, 10), (9, 10), 0)

    found = infidelity(reference, images, targets, maps, normalized=normalized)

    for index in range(9):
        expected = slow_infidelity(
            reference, images[index], targets[index], maps[index], masks[index], normalized=normalized
        )
        assert found[index] == pytest.approx(expected, rel=1e-4)


def test_it_is_captums_for_the_same_perturbations(reference, images, targets):
    """Captum takes attributions per channel: the map stands in the first, zeros in the other."""
    maps = np.random.default_rng(3).normal(size=(9, 6, 10)).astype(np.float32)
    masks = torch.tensor(removed_windows((6, 10), (9, 10), 0)).float()
    spread = torch.stack([torch.tensor(maps), torch.zeros(9, 6, 10)], 1)

    def perturb(inputs):
        mask = masks.reshape(90, 1, 6, 10).expand(-1, 2, -1, -1)
        return mask, images.repeat_interleave(10, 0) * (1 - mask)

    expected = captum.metrics.infidelity(
        reference,
        perturb,
        images,
        spread,
        target=torch.tensor(targets),
        n_perturb_samples=10,
        max_examples_per_batch=90,
    )
    found = infidelity(reference, images, targets, maps, normalized=False)

    np.testing.assert_allclose(found, expected.detach(), rtol=1e-3)


def test_on_a_linear_model_the_contributions_are_without_fault_and_noise_is_not():
    module = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    x = torch.randn(5, 1, 4, 6)
    classes = np.array([0, 1, 2, 0, 1])
    truth = module[1].weight.detach().numpy()[classes].reshape(5, 4, 6) * x[:, 0].numpy()
    noise = np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)

    assert infidelity(module, x, classes, truth, normalized=False).max() < 1e-10
    assert infidelity(module, x, classes, 100 * truth).max() < 1e-8  # the scale does not count
    assert infidelity(module, x, classes, noise).mean() > 0.3


def test_maps_that_say_nothing_are_undefined(reference, images, targets):
    maps = np.ones((9, 6, 10), np.float32)
    maps[0] = 0
    maps[1, 0, 0] = np.inf

    assert np.isnan(infidelity(reference, images, targets, maps)).tolist() == [True, True] + [False] * 7


def test_windows_are_up_to_half_of_each_axis_and_lie_inside():
    masks = removed_windows((6, 10), (50, 4), 5)
    sides = [masks.max(axis=3).sum(2), masks.max(axis=2).sum(2)]

    assert set(np.unique(masks)) == {0.0, 1.0}
    assert [(side.min(), side.max()) for side in sides] == [(1, 3), (1, 5)]
    np.testing.assert_array_equal(masks.sum((2, 3)), sides[0] * sides[1])
