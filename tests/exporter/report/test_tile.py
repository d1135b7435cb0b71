"""Pictures decoded again and compared with their numbers."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from clearweight.exporter.report.tile import image_tile, map_tile, unit_scale


def pixels(address):
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert not picture.info
    return np.asarray(picture.convert("RGB")).astype(int)


def test_grey_image_spans_black_to_white():
    found = pixels(image_tile(np.array([[[-1.0, 0.0], [1.0, 3.0]]])))

    assert found[..., 0].tolist() == [[0, 64], [128, 255]]
    assert (found[..., 0] == found[..., 2]).all()


def test_three_channels_are_colours():
    image = np.zeros((3, 1, 2))
    image[0, 0, 1] = 1.0

    assert pixels(image_tile(image)).tolist() == [[[0, 0, 0], [255, 0, 0]]]


@pytest.mark.parametrize("shape", [(1, 30), (2, 30), (30,)])
def test_signals_and_flat_inputs_are_strips(shape):
    assert pixels(image_tile(np.random.default_rng(1).normal(size=shape))).shape == (1, 30, 3)


def test_constant_image_is_drawn():
    assert pixels(image_tile(np.full((1, 4, 4), 7.0))).max() == 0


def test_red_speaks_for_blue_against_and_white_is_nothing():
    (against, nothing, towards), *_ = pixels(map_tile(np.array([[-1.0, 0.0, 1.0]])))

    assert against[2] > against[0] + 50
    assert towards[0] > towards[2] + 50
    assert nothing.min() > 240


def test_values_beyond_full_colour_and_broken_ones_are_drawn():
    (first, second, third), *_ = pixels(map_tile(np.array([[-9.0, np.nan, np.inf]])))

    assert first.tolist() == pixels(map_tile(np.array([[-1.0]])))[0, 0].tolist()
    assert second.tolist() == pixels(map_tile(np.array([[0.0]])))[0, 0].tolist()
    assert third[0] > third[2]


def test_large_pictures_are_averaged_and_keep_their_mean():
    noise = np.random.default_rng(2).uniform(size=(1, 128, 192))
    noise[0, 0, 0], noise[0, 0, 1] = 0.0, 1.0
    blocks = noise[0].reshape(64, 2, 64, 3).mean((1, 3))

    found = pixels(image_tile(noise))[..., 0]

    expected = (blocks - blocks.min()) / np.ptp(blocks) * 255
    assert found.shape == (64, 64)
    assert np.abs(found - expected).max() <= 0.51


def test_unit_scale_makes_the_high_quantile_one():
    values = np.linspace(-1.0, 2.0, 1000)
    values[0] = -500.0

    scaled = unit_scale(values)

    assert np.isclose(np.quantile(np.abs(scaled), 0.995, method="higher"), 1.0)
    assert np.abs(scaled).max() > 200
    assert unit_scale(np.zeros(4)).tolist() == [0.0] * 4
    assert np.isfinite(unit_scale(np.array([1.0, np.nan]))).all()
