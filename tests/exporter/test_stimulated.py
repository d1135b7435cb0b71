"""Units of the recipe, against the activations themselves."""

import numpy as np
import pytest
import torch

from clearweight.exporter import RecipeError
from clearweight.exporter.explain import Unit
from clearweight.exporter.stimulated import stimulated
from tests import small_digits


def asked(layer, channel):
    return small_digits.recipe(report={"units": [{"layer": layer, "channel": channel}]})


def test_the_inputs_are_those_with_the_largest_activation(exported):
    inputs = exported.prepared.inputs(exported.prepared.splits.calibration)
    found = stimulated(asked("conv1", 2), exported.compressed, inputs.numpy())[Unit("conv1", 2)]
    with torch.no_grad():
        largest = exported.compressed.plain.conv1(inputs)[:, 2].amax((1, 2)).numpy()

    assert [one.index for one in found] == np.argsort(-largest, kind="stable")[:9].tolist()
    assert [one.activation for one in found] == pytest.approx(np.sort(largest)[::-1][:9].tolist(), rel=1e-5)


def test_nothing_asked_nothing_found(exported):
    assert stimulated(small_digits.recipe(), exported.compressed, np.zeros((1, 1, 8, 8), np.float32)) == {}


@pytest.mark.parametrize(("layer", "channel"), [("conv9", 0), ("conv1", 600)])
def test_a_unit_that_is_not_there_is_the_recipes_fault(exported, layer, channel):
    with pytest.raises(RecipeError, match=rf"report\.units: '{layer}', channel {channel}"):
        stimulated(asked(layer, channel), exported.compressed, np.zeros((2, 1, 8, 8), np.float32))
