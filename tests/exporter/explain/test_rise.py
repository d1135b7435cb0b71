"""RISE against a plain loop over masks, and its expectation on a linear model."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.explain import NotApplicableError, build
from clearweight.exporter.graph import int8_onnx, to_onnx
from tests.exporter.explain.perturbing import inputs_of, predict, recurrent, run


def bilinear(grid, shift, space):
    """Interpolate one grid of cells, whose centres lie at (j + 0.5) cells, at every place."""
    cells = grid.shape[0] - 1
    mask = np.zeros(space)
    for place in np.ndindex(*space):
        at = [(p + 0.5) / n * cells + s for p, n, s in zip(place, space, shift, strict=True)]
        value = 0.0
        for corner in itertools.product((0, 1), repeat=len(space)):
            weight, index = 1.0, []
            for u, side in zip(at, corner, strict=True):
                low = int(np.floor(u - 0.5))
                weight *= (u - 0.5 - low) if side else (1 - (u - 0.5 - low))
                index.append(min(max(low + side, 0), cells))
            value += weight * grid[tuple(index)]
        mask[place] = value
    return mask


def slow_rise(model, x, classes, masks, shifts, keep):
    maps = []
    for row, c in zip(x, classes, strict=True):
        space = row.shape[1:] if row.ndim > 1 else row.shape
        total = np.zeros(space)
        for grid, shift in zip(masks, shifts, strict=True):
            mask = bilinear(grid, shift, space)
            total += predict(model, (row * mask)[None].astype(np.float32))[0, c] * mask
        total /= len(masks) * keep
        maps.append(total[None] if row.ndim > 1 else total)
    return np.stack(maps)


@pytest.mark.parametrize("settings", [{}, {"grid": 3, "keep": 0.7}])
def test_the_map_is_the_score_weighted_mean_mask(network, settings):
    x = network.samples(2)
    graph = build(network.model, "rise", settings=settings)
    inputs = inputs_of(graph, x, [-1, 1], steps=5)
    got = run(graph, inputs)
    classes = [got["logits"][0].argmax(), 1]
    expected = slow_rise(network.model, x, classes, inputs["masks"], inputs["shifts"], graph.settings["keep"])

    np.testing.assert_allclose(got["explain"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got["logits"], predict(network.model, x))
    assert graph.map_shape == (-1, *expected.shape[1:])


def test_on_a_linear_model_the_map_is_unbiased():
    """All 2^(g+1) masks of a small grid, each as often as it is drawn: the mean is the expectation itself."""
    module = nn.Linear(5, 2).eval()
    model = to_onnx(module, torch.zeros(2, 5))
    x = np.random.default_rng(4).normal(size=(1, 5)).astype(np.float32)
    keep, cells, shift = 0.3, 2, 0.25
    graph = build(model, "rise", settings={"grid": cells, "keep": keep})
    grids = np.array(list(itertools.product((0, 1), repeat=cells + 1)), np.float32)
    chance = np.prod(np.where(grids > 0, keep, 1 - keep), axis=1)
    repeats = np.rint(chance * 1000).astype(int)
    assert np.allclose(repeats / 1000, chance)  # every chance is a whole number of thousandths
    masks = np.repeat(grids, repeats, axis=0)
    shifts = np.full((len(masks), 1), shift, np.float32)
    inputs = {"input": x, "target": np.array([1]), "masks": masks, "shifts": shifts}
    got = run(graph, inputs)["explain"][0]

    # M = A g with independent cells: E[M_z M_p] = keep^2 + keep (1 - keep) (A A^T)_zp.
    spread = np.stack([bilinear(np.eye(cells + 1)[j], [shift], (5,)) for j in range(cells + 1)], axis=1)
    second = keep**2 + keep * (1 - keep) * spread @ spread.T
    weight, bias = module.weight.detach().numpy()[1], module.bias.detach().numpy()[1]
    np.testing.assert_allclose(got, (weight * x[0]) @ second / keep + bias, rtol=1e-4, atol=1e-5)


def test_every_place_is_kept_equally_often():
    model = to_onnx(nn.Linear(9, 2).eval(), torch.zeros(2, 9))
    graph = build(model, "rise")
    inputs = inputs_of(graph, np.zeros((1, 9), np.float32), [0], steps=4000)
    means = np.mean(
        [bilinear(g, s, (9,)) for g, s in zip(inputs["masks"], inputs["shifts"], strict=True)], axis=0
    )

    assert np.abs(means - 0.5).max() < 0.03


def test_recurrent_and_quantized_networks_are_explained(named):
    network = named("cnn")
    quantized = int8_onnx(network.model, network.samples(20, seed=9))
    for model, x in (
        (
            recurrent(nn.GRU, dynamo=False),
            np.random.default_rng(1).normal(size=(2, 3, 12)).astype(np.float32),
        ),
        (quantized, network.samples(2)),
    ):
        graph = build(model, "rise")
        inputs = inputs_of(graph, x, [0, 1], steps=3)
        expected = slow_rise(model, x, [0, 1], inputs["masks"], inputs["shifts"], 0.5)
        # One rounding step of the quantized network may fall to the other side.
        atol = 1e-5 if model is not quantized else 0.02
        np.testing.assert_allclose(run(graph, inputs)["explain"], expected, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 0}, "grid 0"),
        ({"grid": 2.5}, "grid 2.5"),
        ({"keep": 0}, "keep 0"),
        ({"keep": 1.5}, "keep 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(named, settings, message):
    with pytest.raises(NotApplicableError, match=message):
        build(named("cnn").model, "rise", settings=settings)
