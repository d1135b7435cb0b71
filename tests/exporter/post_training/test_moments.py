import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.post_training import moments as module_of_moments
from clearweight.exporter.post_training.layers import layers_of
from clearweight.exporter.post_training.moments import cotangents, moments
from tests.exporter.post_training.networks import cnn, exported, mlp, rows


def slow_fisher_rows(module: nn.Sequential, place: int, x: np.ndarray) -> np.ndarray:
    """E_x sum_c f_c sum_places (d log f_c / dy)^2 by autograd, one sample and one class at a time."""
    total = 0.0
    for sample in torch.from_numpy(x):
        value = sample[None]
        for step in module[: place + 1]:
            value = step(value)
        y = value.detach().requires_grad_()
        log_f = torch.log_softmax(module[place + 1 :](y), 1)[0]
        for c in range(len(log_f)):
            (slope,) = torch.autograd.grad(log_f[c], y, retain_graph=True)
            total += (
                log_f[c].exp().item() * slope.square().flatten(2).sum(2)[0]
                if y.ndim > 2
                else log_f[c].exp().item() * slope.square()[0]
            )
    return (total / len(x)).detach().numpy()


@pytest.mark.parametrize(
    ("module", "row", "places"), [(mlp(), (16,), (1, 3)), (cnn(), (2, 10, 10), (0, 2, 5))]
)
def test_statistics_are_those_of_autograd(module, row, places):
    model, x = exported(module, row), rows(40, row)
    layers = layers_of(model)
    found = dict(moments(model, layers, x))

    for layer, place in zip(layers, places, strict=True):
        seen = found[layer.weight]
        np.testing.assert_allclose(seen.rows, slow_fisher_rows(module, place, x), rtol=2e-3, atol=1e-9)
        into = module[:place](torch.from_numpy(x)).detach().numpy() if place else x
        columns = layer.columns(into).astype(np.float64)
        np.testing.assert_allclose(seen.blocks[0], columns.T @ columns / len(columns), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(seen.mean, columns.mean(0), rtol=1e-4, atol=1e-6)


def test_half_the_curvature_is_the_divergence_of_a_small_change():
    # Of the last layer the Kronecker factors are exact where inputs are alike: one input.
    module, x = mlp(), rows(1, (16,))
    model = exported(module, (16,))
    seen = dict(moments(model, layers_of(model), x))["3.weight"]
    change = np.zeros((5, 12))
    change[2] = 1e-2 * np.random.default_rng(0).normal(size=12)
    with torch.no_grad():
        before = torch.log_softmax(module(torch.from_numpy(x)), 1)
        module[3].weight += torch.from_numpy(change).float()
        after = torch.log_softmax(module(torch.from_numpy(x)), 1)
    divergence = float((before.exp() * (before - after)).sum())

    assert divergence == pytest.approx(0.5 * seen.rows[2] * change[2] @ seen.blocks[0] @ change[2], rel=0.05)


def test_wide_layers_keep_their_moments_in_blocks(monkeypatch):
    monkeypatch.setattr(module_of_moments, "BLOCK", 5)
    model, x = exported(mlp(), (16,)), rows(30, (16,))
    seen = dict(moments(model, layers_of(model), x))["1.weight"]

    assert [len(block) for block in seen.blocks] == [5, 5, 5, 1]
    np.testing.assert_allclose(seen.blocks[2], x[:, 10:15].T @ x[:, 10:15] / 30, rtol=1e-4)


def test_inputs_wait_only_while_they_take_less_room_than_their_sums(monkeypatch):
    monkeypatch.setattr(module_of_moments, "_RUN_BYTES", 1)  # one row at a time
    model, x = exported(mlp(), (16,)), rows(60, (16,))
    eager = module_of_moments._Sums(layers_of(model)[0])
    for row in x:
        eager.add_inputs(row[None])
        assert bool(eager._blocks) != bool(eager._waiting)
    assert eager._blocks  # 60 rows of 64 bytes are more than 16 x 16 sums
    seen = dict(moments(model, layers_of(model), x))["1.weight"]

    np.testing.assert_allclose(seen.blocks[0], x.T @ x / 60, rtol=1e-4, atol=1e-6)


def test_drawn_labels_have_the_expectation_of_all():
    logits = np.tile(np.array([[2.0, 0.0, 1.0, *[-1.0] * 20]], np.float32), (20_000, 1))
    f = np.exp(logits[0]) / np.exp(logits[0]).sum()
    expected = sum(f[c] * np.square(np.eye(23)[c] - f) for c in range(23))
    drawn = sum(np.square(c).mean(0) for c in cotangents(logits, np.random.default_rng(0)))

    np.testing.assert_allclose(drawn, expected, rtol=0.1)
    few = sum(np.square(c)[0] for c in cotangents(logits[:1, :3], np.random.default_rng(0)))
    g = np.exp(logits[0, :3]) / np.exp(logits[0, :3]).sum()
    np.testing.assert_allclose(few, g * (1 - g), rtol=1e-5)
