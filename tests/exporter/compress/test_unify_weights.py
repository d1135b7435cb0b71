"""Weight unification: projections against brute force, ADMM against its equations and against one projection."""

import copy
import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.artifact import WeightsReader, write_weights
from clearweight.artifact.tile import FREE, PRUNED, UNIFIED
from clearweight.exporter import ConstraintError
from clearweight.exporter.checkpoint import model_state, restore
from clearweight.exporter.compress import (
    ShareWeights,
    ShareWeightsConfig,
    UnifyWeights,
    UnifyWeightsConfig,
    Workbench,
)
from clearweight.exporter.compress.constraint import coded_tensors, factored, free_value, put_mask, value_of
from clearweight.exporter.compress.unify_weights import (
    Admm,
    from_tiles,
    kinds_of,
    micro_structure,
    projected,
    tiles_of,
)
from clearweight.exporter.digits import images
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.objective import (
    Distillation,
    DistillationConfig,
    InputMatching,
    InputMatchingConfig,
    Objective,
)
from clearweight.exporter.restructure import restructure
from clearweight.exporter.training import FineTuning, Samples, fit

TUNE = {"epochs": 2, "batch_size": 32}


def config(**changes) -> UnifyWeightsConfig:
    base = {"tile": (1, 4), "unify": {"1.weight": 0.5}, "prune": {"1.weight": 0.25}, "stages": 2}
    return UnifyWeightsConfig(**(base | {"admm": TUNE, "fine_tune": TUNE} | changes))


def slow_cost(tile: np.ndarray, kind: int) -> float:
    """The least squared change of one tile, over a grid of magnitudes with its signs kept."""
    if kind == FREE:
        return 0.0
    if kind == PRUNED:
        return float((tile**2).sum())
    sign = np.where(tile < 0, -1.0, 1.0)
    return min(float(((tile - sign * m) ** 2).sum()) for m in np.linspace(0, np.abs(tile).max(), 20001))


@pytest.mark.parametrize("kind", [PRUNED, UNIFIED])
def test_the_projection_is_the_best_choice_of_tiles_and_magnitudes(kind):
    tiles = np.random.default_rng(kind).normal(size=(7, 4))
    costs = [slow_cost(tile, kind) for tile in tiles]
    best = min(sum(costs[i] for i in chosen) for chosen in combinations(range(7), 3))
    asked = torch.from_numpy(tiles)

    kinds = kinds_of(asked, 3 * (kind == UNIFIED), 3 * (kind == PRUNED))
    found = projected(asked, kinds)

    assert int((kinds == kind).sum()) == 3
    assert int((kinds == FREE).sum()) == 4
    assert float((found - asked).square().sum()) == pytest.approx(best, rel=1e-6)
    assert torch.equal(found[kinds == FREE], asked[kinds == FREE])
    if kind == PRUNED:
        assert torch.count_nonzero(found[kinds == PRUNED]) == 0
    else:
        assert torch.equal(found[kinds == UNIFIED] < 0, asked[kinds == UNIFIED] < 0)


def test_tiles_to_prune_are_chosen_before_tiles_to_unify():
    tiles = torch.tensor([[0.1, 0.1], [0.2, -0.2], [1.0, 1.0], [3.0, 1.0]])

    assert kinds_of(tiles, 2, 1).tolist() == [PRUNED, UNIFIED, UNIFIED, FREE]


@pytest.mark.parametrize("tile", [(1, 4), (3, 1), (2, 2), (6, 12)])
def test_tiles_of_a_convolution_are_those_of_its_matrix(tile):
    weight = torch.arange(6 * 4 * 3.0).view(6, 4, 3, 1)
    matrix = weight.view(6, 12)

    cut = tiles_of(weight, tile)

    slow = [
        matrix[r : r + tile[0], c : c + tile[1]].flatten()
        for r in range(0, 6, tile[0])
        for c in range(0, 12, tile[1])
    ]
    assert torch.equal(cut, torch.stack(slow))
    assert torch.equal(from_tiles(cut, weight, tile), weight)


def test_admm_is_its_three_equations(tiny_model):
    weight = value_of(tiny_model, "1.weight")
    admm, rho = Admm(tiny_model, {"1.weight": (0.5, 0.25)}, (1, 4)), 0.3

    def slow_projection(value):
        tiles = tiles_of(value, (1, 4))
        return from_tiles(projected(tiles, kinds_of(tiles, 24, 12)), value, (1, 4))

    w = weight.detach().clone()
    z, u = slow_projection(w), torch.zeros_like(w)
    for _ in range(3):
        assert float(admm.penalty(rho).detach()) == pytest.approx(
            rho / 2 * float((w - z + u).square().sum()), rel=1e-5
        )
        z = slow_projection(w + u)
        u = u + w - z
        admm.update()
        assert admm.residuals[-1] == pytest.approx(float((w - z).norm() / w.norm()), rel=1e-4)
    admm.rescale(10.0)
    assert float(admm.penalty(1.0).detach()) == pytest.approx(
        float((w - z + u / 10).square().sum()) / 2, rel=1e-5
    )


def test_the_constraint_is_the_projection_and_its_gradient_reaches_magnitudes_by_their_signs(tiny_model):
    weight = value_of(tiny_model, "1.weight").detach().clone()
    tiles = tiles_of(weight, (2, 2))
    kinds = kinds_of(tiles, 20, 15)
    made = micro_structure(weight, (2, 2), kinds)

    value = made(weight)
    assert torch.allclose(value, from_tiles(projected(tiles, kinds), weight, (2, 2)))
    pull = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    (value * pull).sum().backward()

    pulled = tiles_of(pull, (2, 2))
    signs = torch.where(tiles < 0, -1.0, 1.0)
    assert torch.allclose(made.magnitudes.grad[:, 0], (pulled * signs).sum(1)[kinds == UNIFIED], atol=1e-6)
    assert torch.equal(made.free.grad, pulled[kinds == FREE])


@pytest.mark.parametrize(("unify", "prune"), [(0.5, 0.25), (0.0, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_the_step_keeps_signs_membership_and_its_promise(bench: Workbench, tiny_model, unify, prune):
    plain = copy.deepcopy(tiny_model)
    step = UnifyWeights(config(unify={"1.weight": unify}, prune={"1.weight": prune}))

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    tiles = tiles_of(value_of(tiny_model, "1.weight").detach(), (1, 4))
    zero = (tiles == 0).all(1)
    assert int(zero.sum()) == round(48 * prune)
    assert int((tiles.abs().amax(1) == tiles.abs().amin(1)).sum()) >= round(48 * (unify + prune))
    restored = copy.deepcopy(plain)
    restore(restored, model_state(tiny_model))
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(tiny_model(x), restored(x))


def test_retraining_moves_magnitudes_and_no_sign(bench: Workbench, tiny_model):
    held = {}
    real = Workbench.fine_tune

    def watched(self, model, *rest, **hooks):
        found = factored(model, "1.weight")
        held["before"] = (free_value(model, "1.weight.magnitudes").detach().clone(), found.negative.clone())
        real(self, model, *rest, **hooks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workbench, "fine_tune", watched)
        UnifyWeights(config(fine_tune=TUNE | {"learning_rate": 0.5})).apply(tiny_model, bench)

    magnitudes, negative = held["before"]
    after = free_value(tiny_model, "1.weight.magnitudes").detach()
    assert not torch.equal(after, magnitudes)
    assert (after > 0).all()
    assert torch.equal(factored(tiny_model, "1.weight").negative, negative)


@pytest.mark.parametrize("turned", [False, True])
def test_the_packed_file_holds_tiles_and_restores_every_bit(bench: Workbench, tiny_model, turned):
    UnifyWeights(config()).apply(tiny_model, bench)
    if turned:  # what a later step may do to a magnitude
        with torch.no_grad():
            free_value(tiny_model, "1.weight.magnitudes")[:2] = torch.tensor([[-0.5], [0.0]])
    ShareWeights(ShareWeightsConfig(bits={"1.weight.*": 4})).apply(tiny_model, bench)
    x = torch.rand(2, 1, 4, 4)

    made = restructure(tiny_model, to_onnx(tiny_model, x), coded_tensors(tiny_model))
    file = io.BytesIO()
    report = write_weights(file, made.tensors, tiles=True)

    assert {r.name: r.layout for r in report.records}["1.weight"] == "tiles1x4-magnitudes"
    back = dict(WeightsReader(file.getvalue()).tensors())
    assert np.array_equal(back["1.weight"], value_of(tiny_model, "1.weight").detach().numpy())
    assert not np.signbit(back["1.weight"][back["1.weight"] == 0]).any()


def test_what_cannot_be_unified_is_named(bench: Workbench, tiny_model):
    with pytest.raises(
        ConstraintError, match=r"'conv\*' matches no weight that tiles of \(1, 4\) fill.*1\.weight"
    ):
        UnifyWeights(config(unify={"conv*": 0.5})).apply(tiny_model, bench)
    with pytest.raises(ConstraintError, match="at most 1 together"):
        UnifyWeights(config(unify={"1.weight": 0.8})).apply(tiny_model, bench)
    with pytest.raises(ConstraintError, match="leave every weight as it is"):
        UnifyWeights(config(unify=0.0, prune=0.0)).apply(tiny_model, bench)
    put_mask(tiny_model, "1.weight", torch.ones(12, 16, dtype=torch.bool))
    with pytest.raises(ConstraintError, match="constrained already"):
        UnifyWeights(config()).apply(tiny_model, bench)


@pytest.fixture(scope="module")
def digits():
    """A trained small network on digits, its workbench without a runtime, and inputs it has not seen."""
    raw, labels = images()
    order = torch.randperm(len(raw), generator=torch.Generator().manual_seed(0))
    inputs, labels = torch.from_numpy(raw / np.float32(16)).float()[order], torch.from_numpy(labels)[order]
    return Samples(inputs[:1200], labels[:1200]), Samples(inputs[1200:], labels[1200:])


def test_admm_closes_the_residual_and_beats_one_projection_on_digits(digits, runtime):
    seen, unseen = digits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    tune = FineTuning(epochs=8, learning_rate=0.005, batch_size=64)
    fit(
        model,
        seen,
        lambda forward, x, y, _draws: nn.functional.cross_entropy(forward(x), y),
        tune,
        runtime,
        what="reference",
    )
    reference = copy.deepcopy(model).requires_grad_(requires_grad=False)
    terms = [Distillation(DistillationConfig()), InputMatching(InputMatchingConfig())]
    bench = Workbench(seen, Objective(reference, terms), runtime)
    made = {}
    for stages in (0, 4):
        step = UnifyWeights(
            UnifyWeightsConfig(
                unify={"1.weight": 0.3},
                prune={"1.weight": 0.7},
                stages=stages,
                admm={"epochs": 4, "learning_rate": 0.01, "batch_size": 64},
                # The projection itself is compared, and not what training makes of it.
                fine_tune={"epochs": 1, "learning_rate": 1e-9, "batch_size": 64},
            )
        )
        made[stages] = copy.deepcopy(model)
        step.apply(made[stages], replace(bench))
        step.ensure(made[stages])

    def right(network):
        return float((network(unseen.inputs).argmax(1) == unseen.labels).float().mean())

    ends = [stage[-1] for stage in step.residuals]
    assert ends == sorted(ends, reverse=True)
    assert ends[-1] < 1e-2
    third = step.residuals[2]  # the first ones build the dual up, the last one is down at the steps' own size
    assert third == sorted(third, reverse=True)
    assert right(made[4]) > right(made[0]) + 0.03
    assert right(made[4]) > right(reference) - 0.02
