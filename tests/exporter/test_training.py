"""The training loop: its schedules, its batches, its promises."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from clearweight.exporter import StepError
from clearweight.exporter.objective import (
    Distillation,
    DistillationConfig,
    InputMatching,
    InputMatchingConfig,
    Objective,
)
from clearweight.exporter.training import FineTuning, Samples, epoch_batches, fit, learning_rate_factor


def cross_entropy(forward, inputs, labels, _draws):
    return functional.cross_entropy(forward(inputs), labels)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_every_schedule_stays_above_zero_and_at_most_one(schedule):
    factors = [learning_rate_factor(schedule, s, 40) for s in range(40)]

    assert all(0.0 < f <= 1.0 for f in factors)


def test_cosine_falls_from_the_peak_and_one_cycle_rises_first():
    cosine = [learning_rate_factor("cosine", s, 10) for s in range(10)]
    cycle = [learning_rate_factor("one_cycle", s, 10) for s in range(10)]

    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1.0
    assert cosine[5] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert cycle[0] == pytest.approx(0.04)
    assert max(cycle) == cycle[3] == 1.0


def test_an_epoch_sees_each_sample_at_most_once_and_drops_the_rest():
    batches = list(epoch_batches(10, 4, torch.Generator().manual_seed(0), rank=0, world=1))

    assert [len(b) for b in batches] == [4, 4]
    assert len(set(torch.cat(batches).tolist())) == 8


def test_processes_share_the_batches_of_one():
    def draw(rank, world):
        return list(epoch_batches(12, 6, torch.Generator().manual_seed(1), rank, world))

    whole, halves = draw(0, 1), [draw(r, 2) for r in (0, 1)]

    for batch, first, second in zip(whole, *halves, strict=True):
        assert set(batch.tolist()) == {*first.tolist(), *second.tolist()}
        assert not {*first.tolist()} & {*second.tolist()}


def test_training_lowers_the_loss_and_is_the_same_every_time(samples, runtime):
    def trained():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        before = functional.cross_entropy(model(samples.inputs), samples.labels)
        fit(
            model,
            samples,
            cross_entropy,
            FineTuning(epochs=8, batch_size=32, learning_rate=0.05),
            runtime,
            what="x",
        )
        return model, before, functional.cross_entropy(model(samples.inputs), samples.labels)

    (first, before, after), (second, _, _) = trained(), trained()

    assert after < 0.8 * before
    assert not first.training
    assert torch.equal(first[1].weight, second[1].weight)


def test_hooks_see_every_step_in_order(samples, runtime, tiny_model):
    seen = []
    fit(
        tiny_model,
        samples,
        cross_entropy,
        FineTuning(epochs=2, batch_size=50),
        runtime,
        what="x",
        on_gradients=lambda step, steps: seen.append(("gradients", step, steps)),
        on_step=lambda step, steps: seen.append(("step", step, steps)),
    )

    assert seen == [(k, s + (k == "step"), 4) for s in range(4) for k in ("gradients", "step")]


def test_frozen_parameters_do_not_move(samples, runtime, tiny_model):
    tiny_model[1].weight.requires_grad_(requires_grad=False)
    before = tiny_model[1].weight.clone()

    fit(
        tiny_model,
        samples,
        cross_entropy,
        FineTuning(epochs=1, batch_size=32, optimizer="sgd"),
        runtime,
        what="x",
    )

    assert torch.equal(before, tiny_model[1].weight)


def test_too_few_samples_for_one_batch_are_named(samples, runtime, tiny_model):
    few = Samples(samples.inputs[:5], samples.labels[:5])

    with pytest.raises(
        StepError, match="prune: the fitting split has 5 samples, expected at least one batch of 8"
    ):
        fit(tiny_model, few, cross_entropy, FineTuning(epochs=1, batch_size=8), runtime, what="prune")


def test_a_loss_that_is_not_finite_stops_the_step(samples, runtime, tiny_model):
    with pytest.raises(StepError, match=r"prune: the loss is nan at step 2 of 2.*smaller learning rate"):
        fit(
            tiny_model,
            samples,
            lambda forward, x, _y, _draws: forward(x).sum() * math.nan,
            FineTuning(epochs=1, batch_size=64),
            runtime,
            what="prune",
        )


def test_layers_compute_in_fewer_bits_while_weights_keep_theirs(samples, runtime):
    seen = set()

    def trained(precision):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
        model[0].register_forward_hook(lambda _module, _inputs, out: seen.add((precision, out.dtype)))
        reference = copy.deepcopy(model)
        model[0].weight.data *= 1.5
        terms = [Distillation(DistillationConfig()), InputMatching(InputMatchingConfig())]
        loss = partial(Objective(reference, terms).loss, model)
        fit(model, samples, loss, FineTuning(epochs=2, batch_size=16, precision=precision), runtime, what="x")
        return model

    exact, narrow = trained("float32"), trained("bfloat16")

    assert seen == {("float32", torch.float32), ("bfloat16", torch.bfloat16)}
    assert all(p.dtype == torch.float32 for p in narrow.parameters())
    for own, aim in zip(narrow.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(own, aim, atol=0.01, rtol=0.0)
    assert any(not torch.equal(a, b) for a, b in zip(narrow.parameters(), exact.parameters(), strict=True))
