"""Constraints on recurrent layers hold in the forward pass, in training, in copies and in the graph that ships."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.compress.constraint import free_value, put_codebook, put_mask, value_of
from clearweight.exporter.graph import session, to_onnx
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.recurrent import look_up_weights

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Reader(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.head = kind(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def reader(kind):
    torch.manual_seed(0)
    return look_up_weights(Reader(kind).eval())


def series(count=5):
    return torch.randn(count, 6, 3, generator=torch.Generator().manual_seed(1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow(model, x, kind):
    """The cells' equations as torch documents them, step by step in float64, on the values behind the constraints."""
    w, u, b, c = (value_of(model, f"cell.{name}").detach().numpy().astype(np.float64) for name in WEIGHTS)
    state, memory = np.zeros((len(x), 4)), np.zeros((len(x), 4))
    for step in x.numpy().astype(np.float64).transpose(1, 0, 2):
        given, kept = step @ w.T + b, state @ u.T + c
        if kind is nn.GRU:
            (r, z, n), (hr, hz, hn) = np.split(given, 3, 1), np.split(kept, 3, 1)
            update, new = sigmoid(z + hz), np.tanh(n + sigmoid(r + hr) * hn)
            state = (1 - update) * new + update * state
        else:
            i, f, g, o = np.split(given + kept, 4, 1)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            state = sigmoid(o) * np.tanh(memory)
    return state @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()


def masks(model):
    draws = torch.Generator().manual_seed(2)
    return {f"cell.{n}": torch.rand(getattr(model.cell, n).shape, generator=draws) > 0.5 for n in WEIGHTS[:2]}


def constrained(kind):
    """Return a reader with both weight matrices pruned and one of them shared."""
    model = reader(kind)
    found = masks(model)
    for name, mask in found.items():
        put_mask(model, name, mask)
    first = "cell.weight_ih_l0"
    put_codebook(
        model,
        first,
        torch.tensor([-0.3, 0.4]),
        torch.where(found[first], 1 + (found[first].cumsum(1) % 2), 0),
    )
    return model


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_the_cell_runs_on_its_constrained_weights(kind):
    model = constrained(kind)

    np.testing.assert_allclose(model(series()).detach(), slow(model, series(), kind), atol=1e-6)
    assert not torch.allclose(model(series()), reader(kind)(series()), atol=1e-3)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_looking_up_changes_nothing_else_and_is_done_once(kind):
    torch.manual_seed(0)
    plain = Reader(kind).eval()
    expected, names = plain(series()), list(plain.state_dict())

    assert look_up_weights(look_up_weights(plain)) is plain
    assert torch.equal(plain(series()), expected)
    assert list(plain.state_dict()) == names
    assert type(plain.cell).__name__ == kind.__name__


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_moved_copied_and_freed_of_constraints_it_answers_the_same(kind):
    model = constrained(kind)
    expected = model(series())

    assert torch.equal(copy.deepcopy(model)(series()), expected)
    assert torch.allclose(without_parametrizations(model)(series()), expected, atol=1e-6)
    assert model.to(torch.float64)(series().double()).dtype == torch.float64
    assert torch.allclose(model(series().double()).float(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_loss_of_the_map_moves_survivors_alone(kind):
    model = reader(kind)
    for name, mask in masks(model).items():
        put_mask(model, name, mask)
    x = series().requires_grad_()
    (slope,) = torch.autograd.grad(model(x)[:, 0].sum(), x, create_graph=True)

    (x * slope).square().sum().backward()

    for name, mask in masks(model).items():
        moved = free_value(model, name).grad
        assert moved[mask].abs().max() > 0
        assert not moved[~mask].any()


@pytest.mark.parametrize(("kind", "operator"), [(nn.GRU, "GRU"), (nn.LSTM, "LSTM")])
def test_the_graph_has_the_operator_and_the_parameters_of_the_module(kind, operator):
    model = constrained(kind)

    graph = to_onnx(model, series())

    assert [node.op_type for node in graph.graph.node].count(operator) == 1
    found = session(graph).run(None, {"input": series().numpy()})[0]
    np.testing.assert_allclose(found, slow(model, series(), kind), atol=1e-6)
    assert {t.name for t in graph.graph.initializer} == set(reader(kind).state_dict())
