"""Low rank: the factors against the optimum by other means, and two layers that compute what the one did."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.checkpoint import model_state, restore
from clearweight.exporter.compress import LowRankConfig, LowRankFactorization, Workbench
from clearweight.exporter.compress.constraint import coded_tensors, parameter_names, put, put_mask, value_of
from clearweight.exporter.compress.low_rank import (
    LowRank,
    Separable,
    affordable_rank,
    energy_rank,
    factors,
    separated,
)
from clearweight.exporter.graph import session, to_onnx
from clearweight.exporter.restructure import restructure

TUNE = {"epochs": 1, "batch_size": 32}


def slow_weighted(matrix, weights, rank, rounds=400):
    """Alternating least squares, row by row and column by column: the optimum without any SVD."""
    rng = np.random.default_rng(0)
    right = rng.normal(size=(rank, matrix.shape[1]))
    for _ in range(rounds):
        left = matrix @ right.T @ np.linalg.inv(right @ right.T)
        scaled = left.T * weights
        right = np.linalg.solve(scaled @ left, scaled @ matrix)
    return left @ right


@pytest.mark.parametrize("rank", [1, 3])
def test_factors_reach_the_weighted_optimum(rank):
    rng = np.random.default_rng(1)
    matrix, weights = rng.normal(size=(7, 9)), rng.uniform(0.1, 5, 7)

    left, right = factors(torch.from_numpy(matrix), torch.from_numpy(weights), rank, None)

    def error(product):
        return float((weights[:, None] * (product - matrix) ** 2).sum())

    found = error((left.double() @ right.double()).numpy())
    assert found == pytest.approx(error(slow_weighted(matrix, weights, rank)), rel=1e-4)
    plain, thin = factors(torch.from_numpy(matrix), torch.ones(7), rank, None)
    assert found < error((plain.double() @ thin.double()).numpy())


def test_a_separable_filter_bank_is_found_exactly():
    generator = torch.Generator().manual_seed(2)
    vertical = torch.randn(3, 4, 5, 1, generator=generator)
    horizontal = torch.randn(6, 3, 1, 5, generator=generator)
    kernels = torch.zeros(6, 4, 5, 5)
    for o in range(6):
        for i in range(4):
            for r in range(3):
                kernels[o, i] += vertical[r, i] @ horizontal[o, r]

    found = Separable(*separated(kernels, torch.ones(6), 3, None))(kernels)

    assert torch.allclose(found, kernels, atol=1e-5)


def test_rank_by_energy_and_by_budget():
    singular = torch.tensor([3.0, 2.0, 1.0, 1.0])  # squares 9 4 1 1 of 15

    assert [energy_rank(singular, e) for e in (0.5, 0.6, 0.61, 13 / 15, 0.9, 1.0)] == [1, 1, 2, 2, 3, 4]
    assert affordable_rank(torch.Size((300, 784)), 0.25) == int(0.25 * 300 * 784 / 1084)
    assert affordable_rank(torch.Size((2, 3)), 0.1) == 1


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2))
        self.conv2 = nn.Conv2d(6, 5, (3, 5), padding="same")
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def factorized(model, energy=1.0):
    for name in [n for n in parameter_names(model) if n.endswith("weight")]:
        value = value_of(model, name).detach()
        made = (
            LowRank(*factors(value, torch.ones(len(value)), None, energy))
            if value.ndim == 2
            else Separable(*separated(value, torch.ones(len(value)), None, energy))
        )
        put(model, name, made)
    return model


@pytest.mark.parametrize("energy", [1.0, 0.6])
def test_two_layers_compute_what_their_product_does(energy):
    torch.manual_seed(0)
    model = factorized(Strided().eval(), energy)
    x = torch.rand(3, 1, 9, 8, generator=torch.Generator().manual_seed(1))

    made = restructure(model, to_onnx(model, x), coded_tensors(model))

    found = session(made.model).run(None, {"input": x.numpy()})[0]
    assert np.allclose(found, model(x).detach().numpy(), atol=1e-5)
    operators = [node.op_type for node in made.model.graph.node]
    assert operators.count("Conv") == 4
    assert operators.count("Gemm") == 2
    shapes = {t.name: tuple(t.dims) for t in made.model.graph.initializer}
    assert {t.name: t.values.shape for t in made.tensors} == shapes
    parameters = sum(p.numel() for p in Strided().parameters())
    assert sum(made.stands_for.get(t.name, t.values.size) for t in made.tensors) == parameters


def test_factors_are_parameters_with_constraints_of_their_own_and_survive_a_checkpoint(tiny_model):
    plain = copy.deepcopy(tiny_model)
    model = factorized(tiny_model, 0.7)
    assert "1.weight.left" in parameter_names(model)
    assert "1.weight" not in parameter_names(model)
    put_mask(model, "1.weight.right", value_of(model, "1.weight.right").abs() > 0.1)

    restored = copy.deepcopy(plain)
    restore(restored, model_state(model))

    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(model(x), restored(x))
    assert parameter_names(restored) == parameter_names(model)
    assert (value_of(restored, "1.weight.right") == 0).any()


@pytest.mark.parametrize("goal", [{"share": 0.6}, {"energy": 0.8}])
@pytest.mark.parametrize("weighting", ["none", "fisher"])
def test_the_step_factors_trains_and_keeps_its_promise(bench: Workbench, tiny_model, goal, weighting):
    step = LowRankFactorization(
        LowRankConfig(layers=("1.weight",), weighting=weighting, fine_tune=TUNE, **goal)
    )

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    held = sum(value_of(tiny_model, f"1.weight.{f}").numel() for f in ("left", "right"))
    assert held <= 0.6 * 12 * 16 or "energy" in goal


def test_training_moves_the_factors(bench: Workbench, tiny_model):
    config = LowRankConfig(layers=("1.weight",), share=0.6, weighting="none", fine_tune=TUNE)
    before, _ = factors(value_of(tiny_model, "1.weight").detach(), torch.ones(12), 4, None)

    LowRankFactorization(config).apply(tiny_model, bench)

    assert not torch.equal(value_of(tiny_model, "1.weight.left").detach(), before)


def test_what_cannot_be_factored_is_named(bench: Workbench, tiny_model):
    config = LowRankConfig(layers=("conv*",), share=0.5, fine_tune=TUNE)
    with pytest.raises(ConstraintError, match=r"'conv\*' matches no weight.*1\.weight, 3\.weight"):
        LowRankFactorization(config).apply(tiny_model, bench)
    put_mask(tiny_model, "1.weight", torch.ones(12, 16, dtype=torch.bool))
    with pytest.raises(ConstraintError, match="constrained already"):
        LowRankFactorization(LowRankConfig(layers=("1.weight",), share=0.5, fine_tune=TUNE)).apply(
            tiny_model, bench
        )
