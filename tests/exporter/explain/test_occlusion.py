"""Occlusion against a plain loop over windows, the exact value on linear models, and Captum."""

import itertools

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.evaluate import attribution
from clearweight.exporter.explain import NotApplicableError, UnknownMethodError, build
from clearweight.exporter.graph import int8_onnx, to_onnx
from tests.exporter.explain.perturbing import inputs_of, predict, recurrent, run, with_loop


def slow_occlusion(model, x, classes, baseline, size, stride):
    """One window of one input at a time."""
    maps = []
    for row, c, base in zip(x, classes, baseline, strict=True):
        space = row.shape[1:] if row.ndim > 1 else row.shape
        starts = [sorted({*range(0, max(n - size, 0) + 1, stride), max(n - size, 0)}) for n in space]
        total, count = np.zeros(space), np.zeros(space)
        for corner in itertools.product(*starts):
            hidden, window = row.copy(), tuple(slice(at, at + size) for at in corner)
            hidden[(..., *window)] = base[(..., *window)]
            total[window] += predict(model, row[None])[0, c] - predict(model, hidden[None])[0, c]
            count[window] += 1
        maps.append((total / count)[None] if row.ndim > 1 else total / count)
    return np.stack(maps)


@pytest.mark.parametrize("settings", [{}, {"window": 3}, {"window": 3, "stride": 2}])
def test_the_map_is_the_mean_fall_over_the_windows_above_a_place(network, settings):
    x = network.samples(3)
    baseline = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    graph = build(network.model, "occlusion", settings=settings)
    got = run(graph, inputs_of(graph, x, [-1, 0, 1], baseline=baseline))
    classes = [got["logits"][0].argmax(), 0, 1]
    window, stride = (int(graph.settings[name]) for name in ("window", "stride"))
    expected = slow_occlusion(network.model, x, classes, baseline, window, stride)

    np.testing.assert_allclose(got["explain"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got["logits"], predict(network.model, x))
    assert graph.map_shape == (-1, *expected.shape[1:])


def test_a_window_of_one_place_is_exact_on_an_affine_model(named):
    network = named("affine")
    x = network.samples(4)
    baseline = np.full_like(x, 0.7)
    graph = build(network.model, "occlusion", settings={"window": 1})
    got = run(graph, inputs_of(graph, x, [0, 1, 2, 0], baseline=baseline))["explain"]
    weight = network.module.fc.weight.numpy()[[0, 1, 2, 0]]

    np.testing.assert_allclose(got, weight * (x - baseline), rtol=1e-4, atol=1e-6)
    assert graph.steps == 6


def test_channels_are_hidden_together():
    module = nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).eval()
    x = np.random.default_rng(5).normal(size=(2, 2, 3, 4)).astype(np.float32)
    graph = build(to_onnx(module, torch.zeros(2, 2, 3, 4)), "occlusion", settings={"window": 1})
    got = run(graph, inputs_of(graph, x, [1, 2]))["explain"]
    weight = module[1].weight.detach().numpy()[[1, 2]].reshape(2, 2, 3, 4)

    np.testing.assert_allclose(got, (weight * x).sum(1, keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (3, 3), (2, 1)])
def test_captum_agrees_where_windows_fit(named, window, stride):
    """Captum lets the last window hang over the edge: so only strides that end there are the same windows."""
    network = named("cnn")
    x = network.samples(2)
    graph = build(network.model, "occlusion", settings={"window": window, "stride": stride})
    got = run(graph, inputs_of(graph, x, [0, 3]))["explain"]
    oracle = captum.attr.Occlusion(network.module)
    expected = oracle.attribute(
        torch.tensor(x),
        (1, window, window),
        strides=(1, stride, stride),
        baselines=0,
        target=torch.tensor([0, 3]),
    )

    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "wave", "affine"])
def test_the_measure_of_the_same_name_has_the_same_windows(named, name):
    network = named(name)
    x, classes = network.samples(3), np.array([0, 1, 2])
    graph = build(network.model, "occlusion")
    got = run(graph, inputs_of(graph, x, classes))["explain"]
    told = attribution.occlusion(network.module, torch.tensor(x), classes)

    np.testing.assert_allclose(got.reshape(told.shape), told, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "dynamo"), [(nn.GRU, False), (nn.LSTM, True), (nn.LSTM, False)])
def test_recurrent_networks_are_explained(kind, dynamo):
    model = recurrent(kind, dynamo=dynamo)
    x = np.random.default_rng(2).normal(size=(3, 3, 12)).astype(np.float32)
    graph = build(model, "occlusion", settings={"window": 3})
    got = run(graph, inputs_of(graph, x, [0, 1, 2]))["explain"]

    np.testing.assert_allclose(
        got, slow_occlusion(model, x, [0, 1, 2], np.zeros_like(x), 3, 1), rtol=1e-4, atol=1e-6
    )


def test_a_network_with_a_loop_is_explained():
    model = with_loop()
    x = np.random.default_rng(2).normal(size=(3, 6)).astype(np.float32)
    graph = build(model, "occlusion", settings={"window": 1})
    got = run(graph, inputs_of(graph, x, [0, 1, 2]))["explain"]

    np.testing.assert_allclose(
        got, slow_occlusion(model, x, [0, 1, 2], np.zeros_like(x), 1, 1), rtol=1e-4, atol=1e-6
    )


def test_a_quantized_network_is_explained_by_its_own_logits(named):
    network = named("cnn")
    model = int8_onnx(network.model, network.samples(20, seed=9))
    x = network.samples(2)
    graph = build(model, "occlusion")
    got = run(graph, inputs_of(graph, x, [0, 1]))

    np.testing.assert_array_equal(got["logits"], predict(model, x))
    expected = slow_occlusion(model, x, [0, 1], np.zeros_like(x), 4, 2)
    np.testing.assert_allclose(got["explain"], expected, rtol=1e-4, atol=1e-6)


def test_a_target_that_is_no_class_gives_nan_in_its_row_alone(named):
    network = named("mlp")
    graph = build(network.model, "occlusion")
    got = run(graph, inputs_of(graph, network.samples(3), [0, 9, 1]))["explain"]

    assert np.isnan(got).reshape(3, -1).all(1).tolist() == [False, True, False]
    assert np.isfinite(got[[0, 2]]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 2, "stride": 3}, "leaves places uncovered"),
        ({"window": 2.5}, "window 2.5, expected a whole number"),
        ({"stride": -1}, "stride -1, expected a whole number"),
    ],
)
def test_windows_that_make_no_sense_are_refused(named, settings, message):
    with pytest.raises(NotApplicableError, match=message):
        build(named("cnn").model, "occlusion", settings=settings)


def test_unknown_settings_are_refused(named):
    with pytest.raises(UnknownMethodError, match="no setting 'patch'"):
        build(named("cnn").model, "occlusion", settings={"patch": 2})


def test_a_fixed_batch_is_refused(named):
    model = named("mlp").model
    fixed = type(model)()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(NotApplicableError, match="fixed batch of 1"):
        build(fixed, "occlusion")
