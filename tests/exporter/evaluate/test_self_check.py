import copy

import numpy as np
import pytest
import torch

from clearweight.exporter.evaluate import (
    RANDOM_MAP,
    deletion_auc,
    infidelity,
    input_x_gradient,
    insertion_auc,
    maps_of,
    max_sensitivity,
    mean,
    self_check,
)
from clearweight.exporter.evaluate.self_check import CHECKED, IMAGES


@pytest.fixture
def maps(reference, images, targets):
    return maps_of(reference, images, targets)


def test_each_explainer_and_a_random_map_are_held_against_the_model(reference, images, targets, maps):
    found = self_check(reference, images, maps)

    assert list(found) == [*CHECKED, RANDOM_MAP]
    for name, measure in (
        ("deletion_auc", deletion_auc),
        ("insertion_auc", insertion_auc),
        ("infidelity", infidelity),
    ):
        for explainer in CHECKED:
            expected = mean(measure(reference, images, targets, getattr(maps, explainer)))
            assert getattr(found[explainer], name) == pytest.approx(expected, abs=1e-4)
    steady = max_sensitivity(lambda x, c: input_x_gradient(reference, x, c).sum(1), images, targets)
    assert found["input_x_gradient"].max_sensitivity == pytest.approx(mean(steady), rel=1e-3)
    assert found["gradient"].randomization.layers == ("", "fc", "conv")
    assert found["occlusion"].max_sensitivity is None
    assert found[RANDOM_MAP].randomization is None


def test_an_honest_map_beats_chance(reference, images, maps):
    found = self_check(reference, images, maps)

    assert found["occlusion"].deletion_auc < found[RANDOM_MAP].deletion_auc
    assert found["occlusion"].insertion_auc > found[RANDOM_MAP].insertion_auc
    assert found["input_x_gradient"].infidelity < 0.5 < found[RANDOM_MAP].infidelity
    assert abs(found["gradient"].randomization.remaining) < 0.4


def test_only_the_first_images_are_looked_at(reference):
    images = torch.randn(IMAGES + 5, 2, 6, 10, generator=torch.Generator().manual_seed(1))
    targets = np.zeros(len(images), np.int64)
    maps = maps_of(reference, images, targets)
    changed = copy.copy(maps)
    shown = images.clone()
    shown[IMAGES:] = 0

    assert self_check(reference, images, maps) == self_check(reference, shown, changed)
