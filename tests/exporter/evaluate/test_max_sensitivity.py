import captum.metrics
import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.evaluate import gradient, input_x_gradient
from clearweight.exporter.evaluate.max_sensitivity import max_sensitivity


def test_it_is_captums_for_the_same_draws(reference, images, targets):
    steps = torch.rand((10, *images.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1

    def perturb(inputs, radius=0.02):  # Captum repeats each input ten times in a row
        return inputs + radius * steps.transpose(0, 1).reshape(inputs.shape)

    def explain(inputs, target):
        x = inputs[0] if isinstance(inputs, tuple) else inputs
        with torch.enable_grad():
            maps = torch.tensor(input_x_gradient(reference, x.detach(), target.numpy()))
        return (maps,) if isinstance(inputs, tuple) else maps

    expected = captum.metrics.sensitivity_max(
        explain,
        images,
        perturb_func=perturb,
        max_examples_per_batch=90,
        target=torch.tensor(targets),
    )
    found = max_sensitivity(lambda x, c: input_x_gradient(reference, x, c), images, targets)

    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_constant_gradient_is_steady_and_input_x_gradient_moves_with_the_input():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, classes = torch.ones(4, 1, 3, 4), np.array([0, 1, 2, 0])

    assert max_sensitivity(lambda a, c: gradient(module, a, c), x, classes).max() == 0
    moved = max_sensitivity(lambda a, c: input_x_gradient(module, a, c), x, classes)
    assert ((moved > 0.001) & (moved <= 0.02)).all()


def test_a_zero_map_is_undefined():
    maps = np.array([[0.0, 0.0], [1.0, 2.0], [np.nan, 1.0]], np.float32)
    found = max_sensitivity(lambda _x, _c: maps, torch.zeros(3, 2), np.zeros(3, np.int64))

    assert np.isnan(found).tolist() == [True, False, True]
    assert found[1] == pytest.approx(0)
