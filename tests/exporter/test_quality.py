"""The model's own quality, from the graph that ships."""

import dataclasses

import numpy as np
import pytest
import torch

from clearweight.exporter import RecipeError
from clearweight.exporter.calibration import Explained
from clearweight.exporter.quality import accuracy, retrain_floor
from tests import small_digits


def test_accuracy_is_the_share_of_right_answers(exported):
    test = exported.prepared.test
    x = exported.prepared.inputs(test)
    with torch.no_grad():
        answers = exported.compressed.plain(x).argmax(1).numpy()

    found = accuracy(exported.compressed, x.numpy(), test.labels, 1)

    assert found == pytest.approx((answers == test.labels).mean())
    assert found == exported.manifest.compressed_quality.accuracy
    assert accuracy(exported.compressed, x.numpy(), (answers + 1) % 10, 1) == 0.0


def test_the_manifest_tells_both_networks_faithfulness(exported):
    manifest = exported.manifest
    for found in (manifest.reference_quality, manifest.compressed_quality):
        assert 0.0 < found.deletion_auc < 1.0
        assert 0.2 < found.spearman_to_own_occlusion <= 1.0
        assert found.insertion_auc > found.deletion_auc + 0.3
        assert 0.0 < found.infidelity < 0.6
        assert 0.0 < found.max_sensitivity < 1.0
        assert abs(found.randomization) < 0.4


def floor_of(exported, **changes):
    prepared = dataclasses.replace(exported.prepared, recipe=small_digits.recipe(**changes))
    calibration = exported.prepared.inputs(exported.prepared.splits.calibration)
    with torch.no_grad():
        logits = exported.reference.plain(calibration).numpy()
    from clearweight.exporter.calibration import explained
    from clearweight.exporter.graph import session

    graph = exported.reference.graphs["input_x_gradient"].model
    maps = explained(session(graph), calibration.numpy(), logits.argmax(1)).maps
    return retrain_floor(prepared, Explained(logits, maps))


def test_the_retrain_floor_is_measured_only_when_asked(exported):
    assert floor_of(exported) is None


def test_another_training_keeps_less_than_the_same_and_more_than_chance(exported):
    floor = floor_of(exported, fidelity={"retrain_floor": True})

    assert floor is not None
    assert 0.2 < floor < 0.98
    assert np.isfinite(floor)


def test_a_reference_that_was_not_trained_here_has_no_floor(exported):
    with pytest.raises(
        RecipeError, match=r"fidelity\.retrain_floor needs a reference that the recipe trains"
    ):
        floor_of(exported, fidelity={"retrain_floor": True}, reference=None)
