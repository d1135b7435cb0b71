"""Dense-Sparse-Dense, against its three phases written out."""

import copy

import pytest
import torch
from torch import Generator

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import (
    DenseSparseDense,
    DenseSparseDenseConfig,
    Prune,
    PruneConfig,
    Workbench,
)
from clearweight.exporter.training import FineTuning, epoch_batches, learning_rate_factor

SPARSE = FineTuning(epochs=2, batch_size=32, learning_rate=0.01)
DENSE = FineTuning(epochs=2, batch_size=32, learning_rate=0.001)


def phase(model, samples, config, dropped):
    """Train as the paper says: gradients move everything, what is dropped is zero after every step."""
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    shuffle = Generator().manual_seed(0)
    steps = config.epochs * (len(samples) // config.batch_size)
    step = 0
    for _ in range(config.epochs):
        for index in epoch_batches(len(samples), config.batch_size, shuffle, 0, 1):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(config.schedule, step, steps)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(samples.inputs[index]), samples.labels[index])
            loss.backward()
            optimizer.step()
            step += 1
            for name, mask in dropped.items():
                with torch.no_grad():
                    model.get_parameter(name)[mask] = 0.0


def slow(model, samples, sparsity):
    dropped = {}
    for name in ("1.weight", "3.weight"):
        weight = model.get_parameter(name)
        ranked = sorted(weight.detach().abs().flatten().tolist())
        edge = ranked[round(sparsity * weight.numel())]
        dropped[name] = weight.detach().abs() < edge
        with torch.no_grad():
            weight[dropped[name]] = 0.0
    phase(model, samples, SPARSE, dropped)
    sparse = copy.deepcopy(model)
    phase(model, samples, DENSE, {})
    return sparse, model, dropped


def test_the_step_equals_its_three_phases_written_out(bench: Workbench, tiny_model):
    sparse, expected, dropped = slow(copy.deepcopy(tiny_model), bench.samples, 0.25)
    step = DenseSparseDense(DenseSparseDenseConfig(sparsity=0.25, sparse=SPARSE, dense=DENSE))

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    for name, mask in dropped.items():
        assert not sparse.get_parameter(name)[mask].any()
        # What feeds a unit that never opens has no gradient and stays.
        assert tiny_model.get_parameter(name)[mask].count_nonzero() > 0.3 * mask.sum()
    for name, value in expected.named_parameters():
        assert torch.allclose(value, tiny_model.get_parameter(name), atol=1e-6), name


def test_without_sparsity_it_is_the_equal_epoch_control(bench: Workbench, tiny_model):
    expected = copy.deepcopy(tiny_model)
    phase(expected, bench.samples, SPARSE, {})
    phase(expected, bench.samples, DENSE, {})
    step = DenseSparseDense(DenseSparseDenseConfig(sparsity=0.0, sparse=SPARSE, dense=DENSE))

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    for name, value in expected.named_parameters():
        assert torch.allclose(value, tiny_model.get_parameter(name), atol=1e-6), name


def test_layers_can_stay_dense(bench: Workbench, tiny_model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Workbench,
        "fine_tune",
        lambda _self, model, _config, _what, **_hooks: seen.append(
            {n: float((p == 0).float().mean()) for n, p in model.named_parameters()}
        ),
    )
    config = DenseSparseDenseConfig(sparsity=0.5, dense_layers=("1.*",), sparse=SPARSE, dense=DENSE)

    DenseSparseDense(config).apply(tiny_model, bench)

    assert seen[0]["1.weight"] == 0.0
    assert seen[0]["3.weight"] == 0.5


def test_it_comes_before_every_other_step(bench: Workbench, tiny_model):
    Prune(PruneConfig(density=0.5, schedule="one_shot", fine_tune=DENSE)).apply(tiny_model, bench)

    with pytest.raises(ConstraintError, match=r"1\.weight.*before all others"):
        DenseSparseDense(DenseSparseDenseConfig(sparse=SPARSE, dense=DENSE)).apply(tiny_model, bench)


def test_ensure_notices_weights_that_stayed_zero(tiny_model):
    with torch.no_grad():
        tiny_model[1].weight[:6] = 0.0

    with pytest.raises(ConstraintError, match="stayed zero"):
        DenseSparseDense(DenseSparseDenseConfig(sparsity=0.3, sparse=SPARSE, dense=DENSE)).ensure(tiny_model)
