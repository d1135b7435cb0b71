import io

import numpy as np
import pytest
from PIL import Image

from clearweight.service.core.colours import diverging
from clearweight.service.core.picture import draw

RNG = np.random.default_rng(0)


def read(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_heat_map_shows_each_place_in_its_colour():
    values = RNG.standard_normal((1, 8, 8))
    png, scale = draw(values, np.zeros((1, 8, 8)), "heatmap")
    pixels = read(png)

    assert scale == pytest.approx(np.quantile(np.abs(values), 0.99))
    assert pixels.shape == (256, 256, 3)
    assert np.array_equal(pixels[16::32, 16::32], diverging(values[0] / scale))


def test_the_scale_stands_in_the_file():
    png, scale = draw(np.ones((1, 4, 4)), np.zeros((1, 4, 4)), "heatmap")

    assert f"{scale:.6g}" in Image.open(io.BytesIO(png)).text["Description"]


def test_channels_of_an_image_are_added_up():
    values = np.zeros((3, 8, 8))
    values[0, 2, 3], values[1, 2, 3], values[2, 5, 5] = 2.0, -2.0, 1.0
    pixels = read(draw(values, np.zeros((3, 8, 8)), "heatmap")[0])

    assert np.array_equal(pixels[2 * 32 + 5, 3 * 32 + 5], diverging(np.array(0.0)))
    assert np.array_equal(pixels[5 * 32 + 5, 5 * 32 + 5], diverging(np.array(1.0)))


def test_an_overlay_leaves_the_picture_where_there_is_no_evidence():
    given = np.tile(np.linspace(-3, 5, 16), (16, 1))[None]
    values = np.zeros((1, 16, 16))
    values[0, 4:8, 4:8] = 1.0
    pixels = read(draw(values, given, "overlay")[0])[8::16, 8::16].astype(int)

    untouched = pixels[12]
    assert np.ptp(untouched, axis=1).max() == 0  # grey
    assert untouched[0, 0] == 0
    assert untouched[-1, 0] == 255
    assert pixels[5, 5, 0] > pixels[5, 5, 2] + 80  # red


def test_a_coarse_map_is_spread_over_its_input():
    coarse = np.array([[[0.0, 1.0]]])
    pixels = read(draw(coarse, np.zeros((1, 64, 64)), "heatmap")[0])

    assert pixels.shape[:2] == (256, 256)
    blue = pixels[128, :, 2].astype(int)
    assert (np.diff(blue) <= 0).all()
    assert blue[0] > 240
    assert blue[-1] < 60


@pytest.mark.parametrize(
    ("shape", "height"), [((50,), 96), ((1, 50), 96), ((3, 50), 288), ((12, 5000), 1152)]
)
def test_a_series_has_a_panel_per_channel(shape, height):
    values, given = RNG.standard_normal(shape), RNG.standard_normal(shape)
    plain, drawn = (read(draw(values, given, kind)[0]) for kind in ("heatmap", "overlay"))

    assert plain.shape == drawn.shape == (height, plain.shape[1], 3)
    assert 700 <= plain.shape[1] <= 2048
    ink = (drawn != plain).any(axis=2)
    assert ink.any(axis=0).mean() > 0.95  # a line from end to end
    assert 0 < ink.mean() < 0.6


def test_nothing_at_all_is_white_and_its_scale_is_zero():
    png, scale = draw(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), "heatmap")

    assert scale == 0.0
    assert read(png).min() > 240


def test_one_bright_point_gives_the_scale_where_all_else_is_zero():
    values = np.zeros((1, 100, 100))
    values[0, 0, 0] = -4.0

    assert draw(values, values, "heatmap")[1] == 4.0
