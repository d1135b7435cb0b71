"""Signed numbers as colours: red for, blue against, and white for nothing, equally strong on both sides.

Lightness falls in a straight line with the size of a number and alike for both signs, in Oklab, where equal steps look
equal; so a map reads the same in print without colour, and no side draws the eye before the other.

References
----------
Ottosson, A perceptual color space for image processing, 2020 (the matrices).
Kovesi, Good Colour Maps: How to Design Them, arXiv:1509.03700, section 4 (diverging maps).
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDE = 256
_LIGHTEST, _DARKEST, _CHROMA = 0.97, 0.45, 0.165
_FOR, _AGAINST = np.radians(27.0), np.radians(258.0)
_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def oklab(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the colour of each number from -1 to 1, in Oklab.

    Returns
    -------
    float64, shape (*values.shape, 3)
    """
    size = np.abs(values)
    hue = np.where(values < 0, _AGAINST, _FOR)
    # Colour comes a little before darkness, or weak evidence would look grey.
    chroma = _CHROMA * np.sin(size * np.pi / 2)
    lightness = _LIGHTEST + (_DARKEST - _LIGHTEST) * size
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)


def linear_rgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Oklab colours as linear sRGB, 0 to 1 where a screen can show them."""
    linear: NDArray[np.float64] = ((lab @ _TO_CONES.T) ** 3) @ _TO_LINEAR.T
    return linear


@cache
def _table() -> NDArray[np.uint8]:
    linear = np.clip(linear_rgb(oklab(np.linspace(-1, 1, 2 * _SIDE + 1))), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def diverging(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colour of each number, in sRGB; beyond -1 and 1 as at the end, NaN as nothing.

    Returns
    -------
    uint8, shape (*values.shape, 3)
    """
    index = np.round((np.clip(np.nan_to_num(values), -1, 1) + 1) * _SIDE).astype(np.intp)
    colours: NDArray[np.uint8] = _table()[index]
    return colours
