"""Corrupted images stay images, every corruption changes them in its own way, and the same seed gives the same."""

import numpy as np
import pytest

from benchmarks.corruptions import CORRUPTIONS, corrupted

GREY = np.full((40, 1, 12, 12), 0.5)


def images(n=24):
    return np.random.default_rng(0).integers(0, 256, (n, 3, 16, 16), np.uint8)


def applied(name, values):
    return CORRUPTIONS[name](values, np.random.default_rng(0))


def test_images_stay_images_and_each_is_changed():
    clean = images()
    worn = corrupted(clean)

    assert worn.dtype == np.uint8
    assert worn.shape == clean.shape
    assert (worn != clean).any(axis=(1, 2, 3)).all()


def test_the_same_seed_gives_the_same_images_and_another_others():
    np.testing.assert_array_equal(corrupted(images(), 3), corrupted(images(), 3))
    assert (corrupted(images(), 3) != corrupted(images(), 4)).any()


def test_corruptions_take_turns():
    """The first of six images is the first corruption's, at the seed's first draws."""
    clean = images(6)
    expected = np.rint(255 * np.clip(applied("gaussian_noise", clean[:1] / 255), 0, 1))

    np.testing.assert_array_equal(corrupted(clean)[0], expected[0])


def test_gaussian_noise_has_the_deviation_it_names():
    assert applied("gaussian_noise", GREY).std() == pytest.approx(0.15, rel=0.05)


def test_impulse_noise_blackens_and_whitens_one_place_in_forty_each():
    worn = applied("impulse_noise", GREY)

    assert np.mean(worn == 0) == pytest.approx(0.025, abs=0.006)
    assert np.mean(worn == 1) == pytest.approx(0.025, abs=0.006)


def test_impulse_noise_hits_all_channels_of_a_place():
    hit = applied("impulse_noise", np.full((8, 3, 16, 16), 0.5)) != 0.5

    assert hit.any()
    assert (hit == hit[:, :1]).all()


def test_blur_spreads_a_point_and_keeps_its_sum():
    point = np.zeros((1, 1, 15, 15))
    point[0, 0, 7, 7] = 1.0
    worn = applied("blur", point)

    assert worn.sum() == pytest.approx(1.0)
    # The Gaussian of one pixel, by hand: centre over its neighbour is exp(1/2).
    assert worn[0, 0, 7, 7] / worn[0, 0, 7, 8] == pytest.approx(np.exp(0.5), rel=1e-6)


def test_blur_keeps_images_and_channels_apart():
    bright = np.zeros((2, 2, 9, 9))
    bright[0, 0] = 1.0

    np.testing.assert_allclose(applied("blur", bright), bright)


def test_contrast_keeps_each_mean_and_two_fifths_of_the_spread():
    clean = images() / 255
    worn = applied("contrast", clean)

    np.testing.assert_allclose(worn.mean((1, 2, 3)), clean.mean((1, 2, 3)))
    np.testing.assert_allclose(worn.std((1, 2, 3)), 0.4 * clean.std((1, 2, 3)))


def test_rotation_turns_a_line_by_ten_to_twenty_degrees():
    line = np.zeros((1, 1, 61, 61))
    line[0, 0, 30, :] = 1.0
    worn = applied("rotation", line)[0, 0]
    heights = [worn[:, column].argmax() for column in (10, 50)]
    angle = np.degrees(np.arctan2(abs(heights[1] - heights[0]), 40))

    assert 9 < angle < 21


def test_brightness_adds_a_quarter():
    np.testing.assert_allclose(applied("brightness", GREY), 0.75)
