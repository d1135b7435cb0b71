"""Matching terms: their values from the formulas, and gradients that reach through the sensitivities."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from clearweight.exporter import RecipeError
from clearweight.exporter.objective import (
    FeatureMatching,
    FeatureMatchingConfig,
    InputMatching,
    InputMatchingConfig,
    Needs,
    Objective,
    Task,
    TaskConfig,
)
from clearweight.exporter.objective.attribution_matching import (
    direction_distance,
    equally_weighted_map,
    sensitivity_weighted_map,
)
from clearweight.exporter.objective.view import view


@pytest.fixture
def networks():
    torch.manual_seed(0)
    make = lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    ).double()
    student, reference = make(), make()
    for network in (student, reference):
        network[4].weight.data.abs_()  # positive sensitivities: no map is rectified to zero
        network[0].bias.data.fill_(0.5)  # and every channel takes part
    return student, reference


@pytest.fixture
def inputs():
    return torch.rand(5, 1, 8, 8, generator=Generator().manual_seed(1), dtype=torch.float64)


def test_direction_distance_is_two_minus_two_cosines():
    a, b = torch.randn(6, 2, 5), torch.randn(6, 2, 5)
    cosines = [
        float(np.dot(u, v) / np.linalg.norm(u) / np.linalg.norm(v))
        for u, v in zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True)
    ]

    assert float(direction_distance(a, b)) == pytest.approx(np.mean([2 - 2 * c for c in cosines]), rel=1e-5)


def test_direction_distance_of_an_all_zero_map_is_finite_and_so_is_its_gradient():
    student = torch.zeros(2, 4, requires_grad=True)

    direction_distance(student, torch.ones(2, 4)).backward()

    assert torch.isfinite(student.grad).all()


def test_ewa_is_the_channel_mean_of_squares():
    a = torch.randn(2, 3, 4, 4)

    assert torch.allclose(sum(a[:, k] ** 2 for k in range(3)) / 3, equally_weighted_map(a))


def test_swa_is_the_rectified_sum_weighted_by_summed_sensitivities():
    a, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    by_hand = torch.zeros(2, 4, 5)
    for n in range(2):
        for k in range(3):
            by_hand[n] += g[n, k].sum() * a[n, k]

    assert torch.allclose(by_hand.clamp_min(0), sensitivity_weighted_map(a, g), atol=1e-5)


def test_sswa_without_dropped_channels_is_swa_and_with_them_leaves_those_out():
    a, g = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    assert torch.equal(sensitivity_weighted_map(a, g), sensitivity_weighted_map(a, g, torch.ones(3)))
    kept = sensitivity_weighted_map(a, g, torch.tensor([1.0, 0.0, 1.0]))
    assert torch.allclose(kept, sensitivity_weighted_map(a[:, [0, 2]], g[:, [0, 2]]), atol=1e-5)


def loss_of(term, networks, inputs):
    student, reference = networks
    objective = Objective(reference, [term])
    return lambda: objective.loss(student, student, inputs, torch.zeros(5, dtype=torch.long), Generator())


@pytest.mark.parametrize(
    "term",
    [
        InputMatching(InputMatchingConfig()),
        FeatureMatching(FeatureMatchingConfig(variant="swa", layers=("1",))),
        FeatureMatching(FeatureMatchingConfig(variant="ewa", layers=("1", "2"))),
    ],
    ids=["input", "swa", "ewa"],
)
def test_the_gradient_of_a_matching_term_equals_finite_differences(term, networks, inputs):
    loss = loss_of(term, networks, inputs)
    weight = networks[0][0].weight
    loss().backward()
    for index in [(0, 0, 0, 0), (1, 0, 2, 1), (2, 0, 1, 1)]:
        step = 1e-6
        weight.data[index] += step
        up = float(loss().detach())
        weight.data[index] -= 2 * step
        down = float(loss().detach())
        weight.data[index] += step

        assert (up - down) / (2 * step) == pytest.approx(float(weight.grad[index]), rel=1e-3, abs=1e-9)


def test_gradient_flows_through_the_channel_weights_alone(networks, inputs):
    """With features held fixed only alpha depends on the last layer: its gradient must not vanish."""
    student = networks[0]
    loss_of(FeatureMatching(FeatureMatchingConfig(layers=("0",))), networks, inputs)().backward()

    assert student[4].weight.grad.abs().max() > 1e-8
    assert student[4].bias.grad is None


def test_input_maps_are_input_times_gradient_of_the_references_class(networks, inputs):
    student, reference = networks
    target = reference(inputs).argmax(1)
    seen = view(student, student, inputs, Needs(input_gradient=True), target=target, keep_graph=True)
    for n in range(5):
        x = inputs[n : n + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(student(x)[0, target[n]], x)

        assert torch.allclose(x * gradient, seen.input_map[n : n + 1])


def test_an_identical_student_costs_nothing(networks, inputs):
    reference = networks[1]
    for term in (InputMatching(InputMatchingConfig()), FeatureMatching(FeatureMatchingConfig(layers=("1",)))):
        assert float(loss_of(term, (reference, reference), inputs)().detach()) < 1e-12


def test_an_unknown_layer_is_an_error_that_lists_the_modules(networks, inputs):
    term = FeatureMatching(FeatureMatchingConfig(layers=("features.9",)))

    with pytest.raises(RecipeError, match=r"features\.9.*0, 1, 2"):
        loss_of(term, networks, inputs)


def test_input_noise_is_drawn_from_the_generator_alone(networks, inputs):
    student, reference = networks
    objective = Objective(reference, [Task(TaskConfig())], input_noise=0.5)
    labels = torch.zeros(5, dtype=torch.long)
    draw = lambda seed: float(
        objective.loss(student, student, inputs, labels, Generator().manual_seed(seed)).detach()
    )

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
