"""Deletion and own occlusion, again by hand."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from clearweight.exporter.evaluate import deletion_auc, insertion_auc, spearman_to_own_occlusion


def slow_deletion(module, image, target, scores):
    """Remove one more fiftieth at a time, and add up trapezoids."""
    positions = scores.size
    order = sorted(range(positions), key=lambda index: (-float(scores.flat[index]), index))
    curve, fractions = [], []
    for step in range(51):
        removed = int(np.round(step * positions / 50))
        hidden = image.clone().reshape(image.shape[0], -1)
        hidden[:, order[:removed]] = 0
        with torch.no_grad():
            probability = torch.softmax(module(hidden.reshape(1, *image.shape)).double(), 1)
        curve.append(probability[0, target].item())
        fractions.append(removed / positions)
    return sum((fractions[k + 1] - fractions[k]) * (curve[k] + curve[k + 1]) / 2 for k in range(50))


def test_deletion_area_equals_the_slow_twin(reference, images, targets):
    maps = np.round(np.random.default_rng(51).normal(size=(9, 6, 10)), 1).astype(np.float32)

    found = deletion_auc(reference, images, targets, maps)

    for index in range(9):
        expected = slow_deletion(reference, images[index], targets[index], maps[index])
        assert found[index] == pytest.approx(expected, abs=1e-6)


def test_a_true_map_beats_its_reverse():
    module = nn.Sequential(nn.Flatten(), nn.Linear(100, 2, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.stack([torch.arange(100.0), -torch.arange(100.0)]) / 100)
    images = torch.ones(1, 1, 10, 10)
    truth = np.arange(100.0, dtype=np.float32).reshape(1, 10, 10) + 1

    honest, lying = (deletion_auc(module, images, np.array([0]), maps)[0] for maps in (truth, -truth))

    assert honest < lying


def test_a_removed_position_is_gone_in_every_channel(targets):
    """A model that needs one position of two channels is at chance once that position goes first."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(200, 2, bias=False))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].weight[0, [37, 137]] = 50.0
    maps = np.zeros((1, 10, 10), np.float32)
    maps[0, 3, 7] = 1.0

    area = deletion_auc(module, torch.ones(1, 2, 10, 10), np.array([0]), maps)[0]

    assert area == pytest.approx(0.5 * 0.98 + 0.75 * 0.02)


def test_maps_that_give_no_order_are_undefined(reference, images, targets):
    maps = np.ones((9, 6, 10), np.float32)
    maps[0] = 0
    maps[1, 0, 0] = np.nan

    assert np.isnan(deletion_auc(reference, images, targets, maps)).tolist() == [True, True] + [False] * 7


def test_flat_inputs_are_deleted_element_by_element():
    module = nn.Linear(12, 2)
    vectors = torch.randn(3, 12)
    maps = np.random.default_rng(52).normal(size=(3, 12)).astype(np.float32)

    found = deletion_auc(module, vectors, np.array([0, 1, 0]), maps)

    for index in range(3):
        image = vectors[index][None]
        flattened = nn.Sequential(nn.Flatten(), module)
        assert found[index] == pytest.approx(
            slow_deletion(flattened, image, index % 2, maps[index]), abs=1e-6
        )


def test_own_occlusion_is_compared_by_rank():
    rng = np.random.default_rng(53)
    own, occluded = rng.normal(size=(4, 3, 5)), rng.normal(size=(4, 3, 5))

    for index, value in enumerate(spearman_to_own_occlusion(own, occluded)):
        expected = scipy.stats.spearmanr(own[index].ravel(), occluded[index].ravel()).statistic
        assert value == pytest.approx(expected)


def slow_insertion(module, image, target, scores):
    """Put one more fiftieth into an empty image at a time."""
    positions = scores.size
    order = sorted(range(positions), key=lambda index: (-float(scores.flat[index]), index))
    area, before, reached = 0.0, None, 0.0
    for step in range(51):
        shown = order[: int(np.round(step * positions / 50))]
        partial = torch.zeros(image.shape[0], positions)
        partial[:, shown] = image.reshape(image.shape[0], -1)[:, shown]
        with torch.no_grad():
            p = torch.softmax(module(partial.reshape(1, *image.shape)).double(), 1)[0, target].item()
        fraction = len(shown) / positions
        area += 0.0 if before is None else (fraction - reached) * (p + before) / 2
        before, reached = p, fraction
    return area


def test_insertion_area_equals_the_slow_twin(reference, images, targets):
    maps = np.round(np.random.default_rng(54).normal(size=(9, 6, 10)), 1).astype(np.float32)

    found = insertion_auc(reference, images, targets, maps)

    for index in range(9):
        expected = slow_insertion(reference, images[index], targets[index], maps[index])
        assert found[index] == pytest.approx(expected, abs=1e-6)


def test_inserting_in_a_maps_order_is_deleting_in_its_reverse(reference, images, targets):
    """Without ties both walk the same images, one from either end."""
    maps = np.random.default_rng(55).normal(size=(9, 6, 10)).astype(np.float32)

    inserted, deleted = (
        insertion_auc(reference, images, targets, maps),
        deletion_auc(reference, images, targets, -maps),
    )

    # 60 positions in 50 rounded steps: the rounding differs from either end.
    np.testing.assert_allclose(inserted, deleted, atol=0.01)
