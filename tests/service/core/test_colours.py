import numpy as np

from clearweight.service.core.colours import diverging, linear_rgb, oklab


def lightness(rgb):
    """Oklab lightness of sRGB bytes: the way back, written down by itself."""
    share = rgb.astype(float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ [0.2104542553, 0.7936177850, -0.0040720468]


def test_zero_is_nearly_white_and_the_sides_are_red_and_blue():
    red, white, blue = diverging(np.array([1.0, 0.0, -1.0])).astype(int)

    assert white.min() > 240
    assert np.ptp(white) <= 2
    assert red[0] > 2 * max(red[1:])
    assert blue[2] > 1.5 * max(blue[:2])


def test_equal_steps_look_equal_and_alike_on_both_sides():
    steps = np.linspace(0, 1, 33)
    up, down = lightness(diverging(steps)), lightness(diverging(-steps))

    np.testing.assert_allclose(np.diff(up), -0.52 / 32, atol=0.004)
    np.testing.assert_allclose(up, down, atol=0.004)


def test_every_colour_can_be_shown():
    linear = linear_rgb(oklab(np.linspace(-1, 1, 1001)))

    assert linear.min() > -1e-3
    assert linear.max() < 1 + 1e-3


def test_beyond_the_ends_and_undefined():
    far, end, none, zero = diverging(np.array([-7.0, -1.0, np.nan, 0.0]))

    assert np.array_equal(far, end)
    assert np.array_equal(none, zero)
