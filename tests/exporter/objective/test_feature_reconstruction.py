"""Feature reconstruction: its value from the formula, which modules a pattern means, and what it makes of a network."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Generator, nn

from clearweight.exporter import RecipeError
from clearweight.exporter.objective import FeatureReconstruction, FeatureReconstructionConfig, Objective
from clearweight.exporter.objective.feature_reconstruction import relative_error


@pytest.fixture
def reference():
    torch.manual_seed(0)
    block = lambda inside, outside: nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())
    return nn.Sequential(block(1, 6), block(6, 6), nn.Flatten(), nn.Linear(384, 4)).eval()


@pytest.fixture
def inputs():
    return torch.rand(16, 1, 8, 8, generator=Generator().manual_seed(1))


def objective(reference, *layers):
    return Objective(reference, [FeatureReconstruction(FeatureReconstructionConfig(layers=layers))])


def loss(objective, student, inputs):
    labels = torch.zeros(len(inputs), dtype=torch.long)
    return objective.loss(student, student, inputs, labels, Generator())


def shaken(reference, by):
    student = copy.deepcopy(reference)
    draws = Generator().manual_seed(2)
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(by * weight.std() * torch.randn(weight.shape, generator=draws))
    return student


def test_relative_error_is_the_errors_power_over_the_references():
    s, r = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    error = sum((a - b) ** 2 for a, b in zip(s.flatten().tolist(), r.flatten().tolist(), strict=True))
    power = sum(b**2 for b in r.flatten().tolist())

    assert float(relative_error(s, r)) == pytest.approx(error / power, rel=1e-5)


def test_relative_error_does_not_change_with_the_unit_of_the_features():
    s, r = torch.randn(3, 4), torch.randn(3, 4)

    assert float(relative_error(s, r)) == pytest.approx(float(relative_error(1000 * s, 1000 * r)), rel=1e-5)


def test_features_that_are_zero_for_the_whole_batch_give_finite_gradients():
    student = torch.zeros(2, 4, requires_grad=True)

    relative_error(student, torch.zeros(2, 4)).backward()

    assert torch.isfinite(student.grad).all()


def test_narrow_features_are_compared_in_float32():
    r = torch.full((64, 1024), 8.0, dtype=torch.bfloat16)

    assert float(relative_error(r * 1.0078125, r)) == pytest.approx(0.0078125**2, rel=1e-3)


def test_the_loss_is_the_mean_over_the_layers_that_the_patterns_match(reference, inputs):
    student = shaken(reference, 0.3)
    own, aim = [
        [network[0][0](inputs), network[1][0](network[0](inputs))] for network in (student, reference)
    ]
    by_hand = [(((s - r) ** 2).sum() / (r**2).sum()).item() for s, r in zip(own, aim, strict=True)]

    assert loss(objective(reference, "?.0"), student, inputs).item() == pytest.approx(
        np.mean(by_hand), rel=1e-4
    )
    assert loss(objective(reference, "1.0"), student, inputs).item() == pytest.approx(by_hand[1], rel=1e-4)


def test_a_pattern_without_a_module_is_an_error_that_lists_the_modules(reference):
    with pytest.raises(RecipeError, match=r"'conv\*'.*0\.0, 0\.1"):
        objective(reference, "?.0", "conv*")


def test_no_layer_is_no_term():
    with pytest.raises(ValidationError):
        FeatureReconstructionConfig(layers=())


def test_training_by_it_brings_features_and_with_them_maps_back(reference, inputs):
    """Nothing of the loss is a gradient of the input, and labels play no part."""
    student = shaken(reference, 0.5)
    before = _map_cosine(student, reference, inputs)
    aim = objective(reference, "?.0")
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    first = loss(aim, student, inputs).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(aim, student, inputs).backward()
        optimizer.step()
    # The last layer has no feature behind it that is reconstructed, so that it is given back.
    student[3].load_state_dict(reference[3].state_dict())

    assert loss(aim, student, inputs).item() < 0.1 * first
    assert _map_cosine(student, reference, inputs) > before + 0.1


def _map_cosine(student, reference, inputs):
    maps = []
    target = reference(inputs).argmax(1)
    for network in (student, reference):
        x = inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x).gather(1, target[:, None]).sum(), x)
        maps.append((x * gradient).flatten(1).detach())
    return float(torch.nn.functional.cosine_similarity(*maps).mean())
