"""Distillation against its formula."""

import numpy as np
import pytest
import torch

from clearweight.exporter.objective.distillation import distillation_loss


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_the_scaled_divergence_of_softened_probabilities(temperature):
    rng = np.random.default_rng(0)
    student, reference = rng.normal(size=(2, 6, 5))
    soften = lambda z: np.exp(z / temperature) / np.exp(z / temperature).sum(1, keepdims=True)
    p, q = soften(reference), soften(student)
    expected = temperature**2 * np.mean((p * np.log(p / q)).sum(1))

    assert float(
        distillation_loss(torch.tensor(student), torch.tensor(reference), temperature)
    ) == pytest.approx(expected)


def test_loss_of_equal_logits_is_zero():
    z = torch.randn(3, 4)

    assert float(distillation_loss(z, z, 4.0)) == pytest.approx(0.0, abs=1e-6)
