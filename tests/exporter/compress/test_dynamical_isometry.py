"""Dynamical isometry: what pruning does to a linear network's Jacobian, and what OrthP restores."""

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import DynamicalIsometry, DynamicalIsometryConfig, Workbench
from clearweight.exporter.compress.allocation import kept_count, top_mask
from clearweight.exporter.compress.constraint import put_codebook, put_mask, value_of
from clearweight.exporter.compress.dynamical_isometry import (
    jacobian_statistics,
    nearly_orthogonal,
    orthogonal,
)


def linear_network(depth=7, width=24):
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(depth)])
    for layer in network:
        nn.init.orthogonal_(layer.weight)
    return network


def test_statistics_are_those_of_the_jacobian_row_by_row(tiny_model):
    inputs = torch.rand(4, 1, 4, 4)
    tiny_model.requires_grad_(False)
    values = []
    for x in inputs:
        jacobian = torch.autograd.functional.jacobian(lambda at: tiny_model(at[None])[0], x)
        values.append(np.linalg.svd(jacobian.reshape(4, 16).numpy(), compute_uv=False))
    values = np.array(values)

    found = jacobian_statistics(tiny_model, inputs)

    assert found.mean == pytest.approx(values.mean(), rel=1e-4)
    assert found.distance_to_one == pytest.approx(((values - 1) ** 2).mean(), rel=1e-4)
    assert found.condition == pytest.approx((values[:, 0] / values[:, -1]).mean(), rel=1e-3)


def test_orthp_keeps_the_subspace_and_has_the_gain_as_every_singular_value():
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).double()
    new = orthogonal(weight, 1.5)

    assert np.allclose(np.linalg.svd(new.numpy(), compute_uv=False), 1.5)
    # Rows of both span the same space: the old rows are combinations of the new ones, with a positive last share.
    shares = weight @ new.T / 1.5**2
    assert torch.allclose(shares @ new, weight, atol=1e-10)
    assert (shares.diagonal() > 0).all()


def test_pruning_a_linear_network_breaks_isometry_and_orthp_restores_it(bench: Workbench):
    network = linear_network()
    inputs = torch.randn(3, 24)
    assert jacobian_statistics(network, inputs).mean == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        for layer in network:
            layer.weight.mul_(top_mask(layer.weight.abs(), kept_count(layer.weight.numel(), 0.15)))
    assert jacobian_statistics(network, inputs).mean < 0.5

    step = DynamicalIsometry(DynamicalIsometryConfig())
    step.apply(network, bench)
    step.ensure(network)

    assert jacobian_statistics(network, inputs).mean == pytest.approx(1.0, abs=1e-3)


def test_under_a_mask_orthogonality_is_approached_and_the_mask_kept(bench: Workbench):
    layer = nn.Sequential(nn.Linear(20, 10, bias=False))
    mask = torch.rand(10, 20, generator=torch.Generator().manual_seed(2)) > 0.6
    put_mask(layer, "0.weight", mask)
    before = value_of(layer, "0.weight").detach()

    def far(w):
        return float((w @ w.T - torch.eye(10)).square().sum())

    DynamicalIsometry(DynamicalIsometryConfig()).apply(layer, bench)
    after = value_of(layer, "0.weight").detach()

    assert far(after) < 0.05 * far(before)
    assert not after[~mask].any()


def test_nearly_orthogonal_works_on_kernels_with_more_rows_than_columns():
    weight = torch.randn(30, 2, 2, 2, generator=torch.Generator().manual_seed(3))
    new = nearly_orthogonal(weight, torch.ones_like(weight, dtype=torch.bool), 1.0, 500, 0.05).flatten(1)

    assert torch.allclose(new.T @ new, torch.eye(8), atol=0.1)


def test_what_cannot_be_done_is_refused(bench: Workbench, tiny_model):
    with pytest.raises(ConstraintError, match=r"conv.*1\.weight, 3\.weight"):
        DynamicalIsometry(DynamicalIsometryConfig(weights=("conv*",))).apply(tiny_model, bench)
    put_codebook(tiny_model, "3.weight", torch.tensor([0.1]), torch.ones(4, 12, dtype=torch.long))
    with pytest.raises(ConstraintError, match="codebook"):
        DynamicalIsometry(DynamicalIsometryConfig(weights=("3.*",))).apply(tiny_model, bench)
