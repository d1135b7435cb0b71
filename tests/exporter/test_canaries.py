"""Probe inputs: spread over the classes, real only when asked, synthetic ones made and not taken."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.artifact import Preprocessing
from clearweight.exporter.calibration import Explained
from clearweight.exporter.canaries import canary, canary_inputs, spread_over_classes, synthetic
from clearweight.exporter.data import Labelled
from tests import small_digits


def test_classes_take_turns_in_stored_order():
    part = Labelled(np.arange(6, dtype=np.float32)[:, None], np.array([1, 1, 1, 0, 2, 0]))

    assert spread_over_classes(part, 5).inputs[:, 0].tolist() == [3, 0, 4, 5, 1]


def test_fewer_samples_than_asked_are_all_taken():
    part = Labelled(np.zeros((3, 1), np.float32), np.array([0, 0, 1]))

    assert len(spread_over_classes(part, 16)) == 3


@pytest.fixture
def linear():
    """Logit c is four times the mean of pixel block c, so that a driven probe shows in its block."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(4).repeat_interleave(4, dim=1))
        model[1].bias.zero_()
    return model.eval()


@pytest.mark.parametrize(("kind", "high"), [("UINT8", 255), ("FP32", 1)])
def test_synthetic_probes_are_driven_to_the_classes_in_turn(linear, kind, high):
    preprocessing = Preprocessing(raw_datatype=kind, scale=1 / high)

    found = synthetic(linear, preprocessing, (1, 4, 4), classes=4, count=6, seed=0)

    assert found.inputs.dtype == (np.uint8 if kind == "UINT8" else np.float32)
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= high
    assert found.labels.tolist() == [0, 1, 2, 3, 0, 1]
    logits = linear(torch.from_numpy(found.inputs.astype(np.float32) / high))
    assert logits.argmax(1).tolist() == found.labels.tolist()


def test_synthetic_probes_are_the_same_for_the_same_seed(linear):
    def make(seed):
        return synthetic(linear, Preprocessing(), (1, 4, 4), classes=4, count=4, seed=seed).inputs

    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_normalisation_is_undone_by_the_search(linear):
    preprocessing = Preprocessing(scale=1.0, mean=(0.5,), std=(0.25,))

    found = synthetic(linear, preprocessing, (1, 4, 4), classes=4, count=4, seed=0)

    x = torch.from_numpy((found.inputs - np.float32(0.5)) / np.float32(0.25))
    assert linear(x).argmax(1).tolist() == [0, 1, 2, 3]


def rows(parts):
    return {row.tobytes() for row in parts.inputs}


def test_calibration_canaries_are_calibration_inputs(exported):
    assert rows(canary_inputs(exported.prepared)) <= rows(exported.prepared.splits.calibration)


def test_synthetic_canaries_hold_no_real_input(exported):
    recipe = small_digits.recipe(canaries={"source": "synthetic", "count": 8})
    found = canary_inputs(dataclasses.replace(exported.prepared, recipe=recipe))

    splits = exported.prepared.splits
    assert len(found) == 8
    assert not rows(found) & (rows(splits.fit) | rows(splits.validation) | rows(splits.calibration))


def test_canaries_from_a_file_are_that_files(exported, tmp_path):
    inputs = np.random.default_rng(0).integers(0, 16, (4, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "probes.npz", x=inputs, y=np.arange(4))
    section = {"source": "file", "count": 4, "file": {"npz": str(tmp_path / "probes.npz")}}
    prepared = dataclasses.replace(exported.prepared, recipe=small_digits.recipe(canaries=section))

    assert np.array_equal(canary_inputs(prepared).inputs, inputs)


def test_the_explained_class_is_the_references():
    raw = Labelled(np.zeros((2, 1), np.float32), np.array([0, 0]))
    maps = np.ones((2, 1), np.float32)
    reference = Explained(np.array([[0, 1], [1, 0]], np.float32), maps)
    own = Explained(np.array([[1, 0], [1, 0]], np.float32), 2 * maps)

    found = canary(raw, reference, own)

    assert found.target.tolist() == [1, 0]
    assert found.maps_compressed.dtype == np.float16
    assert (found.maps_compressed == 2).all()
    assert np.array_equal(found.logits_compressed, own.logits)
