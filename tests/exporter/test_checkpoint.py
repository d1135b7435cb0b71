"""Checkpoints: what is kept comes back bit for bit, under a name that only its causes give."""

import copy

import torch
from torch import nn

from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, model_state, restore, section
from clearweight.exporter.compress import PruneConfig, coded_tensors
from clearweight.exporter.compress.constraint import put_codebook, put_mask, value_of
from clearweight.exporter.training import FineTuning


def constrained(model):
    """Put a mask and a codebook on the first weight."""
    weight = value_of(model, "1.weight").detach()
    mask = weight.abs() > weight.abs().median()
    put_mask(model, "1.weight", mask)
    centroids = torch.tensor([0.0, -0.5, 0.5])
    put_codebook(model, "1.weight", centroids, torch.where(mask, (weight > 0).long() + 1, 0).to(torch.uint8))
    return model


def test_a_constrained_model_comes_back_bit_for_bit(tmp_path, tiny_model):
    plain = copy.deepcopy(tiny_model)
    model = constrained(tiny_model)
    kept = Checkpoints(tmp_path / "work")

    kept.save("a", model_state(model))
    restored = copy.deepcopy(plain)
    restore(restored, kept.load("a"))

    before, after = coded_tensors(model), coded_tensors(restored)
    assert [t.name for t in before] == [t.name for t in after]
    for first, second in zip(before, after, strict=True):
        assert first.values.tobytes() == second.values.tobytes()
        assert (first.codebook is None) == (second.codebook is None)
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(model(x), restored(x))


def test_a_restored_model_still_trains_under_its_constraints(tmp_path, tiny_model):
    plain = copy.deepcopy(tiny_model)
    restored = copy.deepcopy(plain)
    restore(restored, model_state(constrained(tiny_model)))
    for parameter in restored.parameters():
        parameter.requires_grad_(requires_grad=True)

    restored(torch.rand(5, 1, 4, 4)).sum().backward()

    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in restored.parameters())
    assert (value_of(restored, "1.weight") == 0).float().mean() >= 0.4


def test_buffers_are_kept():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model(torch.rand(8, 3))
    other = nn.Sequential(nn.BatchNorm1d(3))

    restore(other, model_state(model))

    assert torch.equal(model[0].running_mean, other[0].running_mean)


def test_without_a_folder_nothing_is_kept():
    kept = Checkpoints()
    kept.save("a", {"x": torch.zeros(1)})

    assert kept.load("a") is None


def test_an_unknown_name_is_not_found_and_no_partial_file_is_left(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save("a", {"x": torch.zeros(1)})

    assert kept.load("b") is None
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_name_follows_every_part():
    first = PruneConfig(density=0.5, fine_tune=FineTuning(epochs=1))
    second = PruneConfig(density=0.5, fine_tune=FineTuning(epochs=2))

    assert checkpoint_key("step", section(first)) == checkpoint_key("step", section(first))
    assert checkpoint_key("step", section(first)) != checkpoint_key("step", section(second))
    assert checkpoint_key("step", section((first, second))) != checkpoint_key(
        "step", section((second, first))
    )
    assert checkpoint_key("a") != checkpoint_key("a", 1)


def test_a_setting_that_came_later_leaves_the_name_where_it_is_the_usual_one():
    usual = [["epochs", 2], ["learning_rate", 0.001], ["batch_size", 128], ["schedule", "cosine"]]
    usual += [["optimizer", "adam"], ["weight_decay", 0.0]]

    assert section(FineTuning(epochs=2)) == usual
    assert section(FineTuning(epochs=2, precision="bfloat16")) == [*usual, ["precision", "bfloat16"]]
