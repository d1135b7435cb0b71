"""Channels that make no difference go, however layers are tied; what is left computes the same."""

from functools import lru_cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from clearweight.exporter.graph import session, split_parameters, to_onnx
from clearweight.exporter.graph.channel_rules import channels
from clearweight.exporter.graph.shrink import shrink
from tests.exporter.channel_networks import KINDS, SHAPE, made

X = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)


@lru_cache
def graph_of(kind):
    return to_onnx(made(kind), torch.zeros(2, *SHAPE))


def answer(model):
    return session(model).run(None, {model.graph.input[0].name: X})[0]


def silenced(model, groups):
    """Set to zero all that writes some groups of channels."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    found = channels(model)
    for tensor in own.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        for cut in found.slices:
            if cut.parameter == tensor.name and not cut.reads:
                np.moveaxis(values, cut.axis, 0)[np.isin(cut.ids, list(groups))] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return own


def free_groups(model):
    found = channels(model)
    return sorted({g for ids in found.of.values() for g in ids.tolist()} - found.pinned)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_what_is_left_computes_the_same(kind, share):
    model = graph_of(kind)
    rng = np.random.default_rng(2)
    own = silenced(model, [g for g in free_groups(model) if rng.random() < share])

    small = shrink(own)

    expected = answer(own)
    assert np.abs(answer(small.model) - expected).max() <= 1e-5 * np.abs(expected).max()
    shapes = {name: values.shape for name, values in split_parameters(small.model)[1].items()}
    assert all(0 not in shape for shape in shapes.values())


@pytest.mark.parametrize("kind", ["residual", "mobile", "gated"])
def test_every_free_channel_goes_when_all_that_writes_it_is_zero(kind):
    model = graph_of(kind)
    free = free_groups(model)
    before = channels(model).multiply_accumulates()
    for group in free[::4]:
        small = shrink(silenced(model, [group]))

        lost = {name: len(channels(model).of[name]) - len(rest) for name, rest in small.channels.items()}
        assert lost, f"group {group} of {kind} stayed"
        assert channels(small.model).multiply_accumulates() < before or kind == "residual"


def test_blocks_of_a_residual_stage_lose_the_same_channel():
    model = graph_of("residual")
    found = channels(model)
    group = int(found.of["stem"][4])

    small = shrink(silenced(model, [group]))
    shapes = {name: values.shape for name, values in split_parameters(small.model)[1].items()}

    # The stem's channel 4 is the second block's channel 6: two zeros stand before the shortcut's channels.
    assert shapes["stem.weight"] == (5, 2, 3, 3)
    assert shapes["outer1.weight"] == (5, 5, 3, 3)
    assert shapes["inner1.weight"] == (5, 5, 3, 3)
    assert shapes["outer2.weight"] == (9, 7, 3, 3)
    assert shapes["fc.weight"] == (4, 9)
    assert small.channels["stem"].tolist() == [0, 1, 2, 3, 5]
    assert small.channels["outer2"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_a_gated_channel_takes_its_gate_along():
    model = graph_of("gated")
    small = shrink(silenced(model, [int(channels(model).of["left"][1])]))
    shapes = {name: values.shape for name, values in split_parameters(small.model)[1].items()}

    assert shapes["left.weight"][0] == 4
    assert shapes["excite.weight"] == (8, 3)
    assert shapes["squeeze.weight"] == (3, 8)
    assert shapes["last.weight"][1] == 8


def test_a_channel_that_a_sigmoid_makes_heard_stays():
    model = graph_of("sigmoidal")
    own = silenced(model, [int(channels(model).of["conv"][0])])

    assert "conv" not in shrink(own).channels


def test_a_channel_that_nobody_listens_to_goes_and_with_it_what_only_fed_it():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(72, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)
    )
    with torch.no_grad():
        model[5].weight[:, 2] = 0  # nobody hears unit 2 of the second layer
        model[3].weight[:, 4] = 0
        model[3].weight[2, 4] = 1.0  # and unit 4 of the first speaks to it alone

    small = shrink(to_onnx(model, torch.zeros(2, *SHAPE)))

    assert small.channels["3"].tolist() == [0, 1, 3, 4]
    assert small.channels["1"].tolist() == [0, 1, 2, 3, 5]
    assert np.allclose(answer(small.model), model(torch.from_numpy(X)).detach().numpy(), atol=1e-6)


def test_elements_say_where_everything_was():
    model = silenced(graph_of("mobile"), [])
    own = silenced(model, free_groups(model)[::2])
    _, before = split_parameters(own)

    small = shrink(own)

    _, after = split_parameters(small.model)
    assert small.elements
    for name, at in small.elements.items():
        assert np.array_equal(before[name].reshape(-1)[at], after[name])
        assert at.shape == after[name].shape
    assert set(after) == set(before)


def test_a_network_without_such_channels_comes_back_unchanged():
    model = graph_of("residual")

    assert shrink(model).model.SerializeToString() == model.SerializeToString()


def test_multiply_accumulates_are_those_of_plain_counting():
    found = channels(graph_of("mobile"))

    point, depth, grouped, last = 36 * 8 * 2, 36 * 9 * 16, 36 * 9 * 12 * 4, 36 * 6 * 12
    assert found.multiply_accumulates() == point + depth + grouped + last + 54 * 11 + 11 * 4
