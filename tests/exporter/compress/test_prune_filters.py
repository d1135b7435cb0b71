"""Filter pruning: the choice re-derived gate by gate, and what ships really smaller."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import PruneFilters, PruneFiltersConfig, Workbench
from clearweight.exporter.compress.constraint import coded_tensors, put, value_of
from clearweight.exporter.compress.low_rank import Separable, separated
from clearweight.exporter.compress.prune_filters import (
    FilterSaliency,
    chunks,
    filter_masks,
    layers_of,
    magnitudes,
    weakest,
    weakest_by_cost,
)
from clearweight.exporter.graph import fold_batchnorm, session, to_onnx
from clearweight.exporter.graph.channel_rules import channels
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.objective import Objective, Task, TaskConfig
from clearweight.exporter.restructure import restructure
from clearweight.exporter.training import Samples
from tests.exporter.channel_networks import SHAPE, made

TUNE = {"epochs": 2, "batch_size": 32, "learning_rate": 0.003}
EXAMPLE = torch.zeros(2, *SHAPE)


@pytest.fixture
def residual():
    return fold_batchnorm(made("residual"))


@pytest.fixture
def wide_bench(residual, runtime) -> Workbench:
    x = torch.rand(128, *SHAPE, generator=torch.Generator().manual_seed(5))
    reference = fold_batchnorm(made("residual")).requires_grad_(requires_grad=False)
    labels = reference(x).argmax(1)
    return Workbench(Samples(x, labels), Objective(reference, [Task(TaskConfig())]), runtime)


def gated_loss(model, layers, x, labels):
    """Cross-entropy with a gate on every channel: its gradient at one is what the channel is worth (section 3.2)."""
    count = 1 + max(int(ids.max()) for ids in layers.writers.values())
    gate = torch.ones(count, requires_grad=True)
    values = {}
    for name, parameter in model.named_parameters():
        ids = layers.writers.get(name)
        factor = 1.0 if ids is None else gate[torch.from_numpy(ids)].reshape(-1, *[1] * (parameter.ndim - 1))
        values[name] = parameter.detach() * factor
    loss = nn.functional.cross_entropy(functional_call(model, values, x), labels)
    return torch.autograd.grad(loss, gate)[0].square()


def test_the_saliency_is_the_squared_gradient_of_a_gate_on_the_channel(residual, wide_bench):
    layers = layers_of(residual, EXAMPLE)
    saliency = FilterSaliency(residual, layers, decay=0.5)
    expected = 0.0
    for start in (0, 32):
        x, y = wide_bench.samples.inputs[start : start + 32], wide_bench.samples.labels[start : start + 32]
        residual.zero_grad()
        nn.functional.cross_entropy(residual(x), y).backward()
        saliency.update()
        expected = 0.5 * expected + 0.5 * gated_loss(residual, layers, x, y)

    found = torch.tensor(list(saliency.values().values()))

    assert torch.allclose(found, expected[: len(found)], rtol=1e-4, atol=1e-10)


def test_magnitude_is_the_norm_of_all_filters_of_a_channel_over_the_layers_mean(residual):
    layers = layers_of(residual, EXAMPLE)
    family = next(f for f in layers.families if "stem.weight" in f and "outer2.weight" in f)
    norms = []
    for k in range(
        6
    ):  # a stage's channel k is written by the stem, the first block and, two further, the second
        parts = [
            residual.stem.weight[k],
            residual.stem.bias[k],
            residual.outer1.weight[k],
            residual.outer1.bias[k],
        ]
        parts += [residual.outer2.weight[k + 2], residual.outer2.bias[k + 2]]
        norms.append(sum(float(p.detach().double().square().sum()) for p in parts) ** 0.5)

    scores = magnitudes(residual, layers)

    assert [scores[g] for g in layers.families[family]] == pytest.approx(
        np.array(norms) / np.mean(norms), rel=1e-5
    )


def test_what_is_chosen_by_cost_is_what_dropping_one_by_one_gives(residual):
    layers = layers_of(residual, EXAMPLE)
    rng = np.random.default_rng(3)
    scores = {g: float(rng.random()) for groups in layers.families.values() for g in groups}

    removed = weakest_by_cost(layers, scores, 0.4)

    spared = {max(groups, key=scores.__getitem__) for groups in layers.families.values()}
    slow = set()
    for group in sorted(set(scores) - spared, key=scores.__getitem__):
        if layers.found.multiply_accumulates(frozenset(slow)) <= 0.4 * layers.found.multiply_accumulates():
            break
        slow.add(group)
    assert removed == slow


def test_a_share_that_cannot_be_reached_is_refused(residual):
    layers = layers_of(residual, EXAMPLE)
    scores = {g: 1.0 for groups in layers.families.values() for g in groups}

    with pytest.raises(ConstraintError, match=r"macs 0\.0001 cannot be reached; with 1 channels"):
        weakest_by_cost(layers, scores, 0.0001)


def test_what_stays_is_a_multiple_and_the_weakest_go_first():
    scores = {g: float(g) for g in range(11)}

    assert chunks(range(11), scores, 4) == [(0, 1, 2), (3, 4, 5, 6)]
    assert chunks(range(8), scores, 4) == [(0, 1, 2, 3)]
    assert chunks(range(4), scores, 4) == []
    assert chunks(range(3), scores, 4) == []
    assert chunks(range(3), scores, 1) == [(0,), (1,)]
    family = {("a",): tuple(range(11))}
    assert weakest(family, scores, {("a",): 0.3}, multiple=4) == set(range(7))
    assert weakest(family, scores, {("a",): 0.5}, multiple=4) == {0, 1, 2}


def test_each_family_keeps_its_best():
    families = {("a",): (0, 1, 2, 3), ("b",): (7,)}

    assert weakest(families, {0: 1.0, 1: 3.0, 2: 3.0, 3: 0.5, 7: 0.0}, {("a",): 0.5, ("b",): 0.1}) == {0, 3}


@pytest.mark.parametrize(
    ("goal", "schedule", "criterion"),
    [
        ({"macs": 0.5, "multiple": 1}, "cubic", "first_order"),
        ({"macs": 0.5, "multiple": 1}, "one_shot", "magnitude"),
        ({"keep": 0.5, "multiple": 2}, "one_shot", "first_order"),
        ({"keep": 0.5, "multiple": 2}, "cubic", "magnitude"),
    ],
)
def test_what_ships_lacks_the_channels_and_computes_the_same(residual, wide_bench, goal, schedule, criterion):
    step = PruneFilters(
        PruneFiltersConfig(**goal, schedule=schedule, criterion=criterion, update_every=2, fine_tune=TUNE)
    )
    whole = to_onnx(residual, EXAMPLE)

    step.apply(residual, wide_bench)
    step.ensure(residual)
    small = restructure(residual, to_onnx(residual, EXAMPLE), coded_tensors(residual))

    x = wide_bench.samples.inputs[:5]
    expected = residual(x).detach().numpy()
    found = session(small.model).run(None, {"input": x.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    share = channels(small.model).multiply_accumulates() / channels(whole).multiply_accumulates()
    assert share <= (0.5 if "macs" in goal else 0.35)
    shapes = {t.name: list(t.dims) for t in small.model.graph.initializer}
    assert {t.name: list(t.values.shape) for t in small.tensors} == shapes
    parameters = sum(p.numel() for p in without_parametrizations(residual).parameters())
    assert sum(small.stands_for.get(t.name, t.values.size) for t in small.tensors) == parameters


def test_every_module_keeps_its_shape_while_it_trains(residual, wide_bench):
    before = {name: tuple(value_of(residual, name).shape) for name, _ in residual.named_parameters()}
    PruneFilters(PruneFiltersConfig(keep=0.5, multiple=1, fine_tune=TUNE)).apply(residual, wide_bench)

    assert {name: tuple(value_of(residual, name).shape) for name in before} == before
    assert any(not mask.all() for _, mask in filter_masks(residual))


def test_a_pattern_names_its_layer_or_is_refused(residual, wide_bench):
    step = PruneFilters(PruneFiltersConfig(keep={"inner1.*": 0.2}, multiple=1, fine_tune=TUNE))
    step.apply(residual, wide_bench)

    dropped = {name for name, mask in filter_masks(residual) if not mask.all()}
    assert dropped == {"inner1.weight", "inner1.bias"}
    with pytest.raises(ConstraintError, match=r"'conv9\.\*' matches no layer.*inner1\.bias\+inner1\.weight"):
        PruneFilters(PruneFiltersConfig(keep={"conv9.*": 0.2}, fine_tune=TUNE)).apply(
            fold_batchnorm(made("residual")), wide_bench
        )


def test_ensure_notices_a_filter_that_grew_back(residual, wide_bench):
    step = PruneFilters(PruneFiltersConfig(keep=0.5, multiple=1, schedule="one_shot", fine_tune=TUNE))
    step.apply(residual, wide_bench)
    for _, mask in filter_masks(residual):
        mask.fill_(value=True)

    with pytest.raises(ConstraintError, match="nothing was pruned"):
        step.ensure(residual)


def test_exactly_one_goal_is_given():
    for goal in ({}, {"keep": 0.5, "macs": 0.5}):
        with pytest.raises(ValueError, match="exactly one of keep and macs"):
            PruneFiltersConfig(**goal, fine_tune=TUNE)


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(SHAPE[0], 16, 3), nn.Conv2d(16, 12, 3)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


def factor(model, name):
    value = value_of(model, name).detach()
    put(model, name, Separable(*separated(value, torch.ones(len(value)), None, 0.7)))


def test_channels_of_a_factored_weight_stay_and_what_ships_computes_the_same(runtime):
    torch.manual_seed(3)
    model, reference = Convolutions(), Convolutions().requires_grad_(requires_grad=False)
    x = torch.rand(64, *SHAPE)
    bench = Workbench(Samples(x, reference(x).argmax(1)), Objective(reference, [Task(TaskConfig())]), runtime)
    factor(model, "second.weight")

    config = PruneFiltersConfig(
        keep=0.5, multiple=1, schedule="one_shot", criterion="magnitude", fine_tune=TUNE
    )
    step = PruneFilters(config)
    step.apply(model, bench)
    step.ensure(model)
    model.eval()
    made = restructure(model, to_onnx(model, x[:2]), coded_tensors(model))

    shapes = {tensor.name: tensor.values.shape for tensor in made.tensors}
    assert shapes["first.weight"][0] == 8
    assert shapes["second.weight.vertical"][1] == 8
    assert shapes["second.weight.horizontal"][0] == 12
    found = session(made.model).run(None, {"input": x[:5].numpy()})[0]
    np.testing.assert_allclose(found, model(x[:5]).detach(), rtol=1e-4, atol=1e-5)


def test_a_factored_weight_asked_for_by_name_is_refused(runtime):
    torch.manual_seed(3)
    model = Convolutions()
    x = torch.rand(64, *SHAPE)
    bench = Workbench(
        Samples(x, torch.zeros(64, dtype=torch.long)), Objective(model, [Task(TaskConfig())]), runtime
    )
    factor(model, "second.weight")

    def step(keep):
        return PruneFilters(PruneFiltersConfig(keep=keep, fine_tune=TUNE))

    with pytest.raises(
        ConstraintError, match=r"'second\*' matches no layer.*factors in the place of second\.weight"
    ):
        step({"second*": 0.5}).apply(model, bench)
    factor(model, "first.weight")
    with pytest.raises(ConstraintError, match=r"no layer has channels.*first\.weight, second\.weight"):
        step(0.5).apply(model, bench)
