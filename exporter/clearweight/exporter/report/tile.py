"""Small pictures of inputs and maps, as PNG inside the page.

One picture element per map element: the browser enlarges them without smoothing, so a picture of 28 x 28
takes a few hundred bytes and shows exactly what was computed.
"""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Full colour at this quantile of the magnitude: a single bright element must not blacken the rest.
FULL_COLOUR = 0.995
_DIVERGING = "RdBu_r"
# Larger pictures are averaged down: ten examples of anything must fit the page's size.
MOST_PIXELS = 64
MOST_STRIP_PIXELS = 512


def image_tile(image: NDArray[Any]) -> str:
    """Draw one input (C, *space) or (D,), from its darkest to its lightest value; three channels are colours.

    Returns
    -------
    a ``data:`` address of a PNG
    """
    pixels = _reduced(_as_picture(np.asarray(image, dtype=np.float64)))
    low, high = float(pixels.min()), float(pixels.max())
    level = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    return _png(np.round(255 * level).astype(np.uint8))


def map_tile(values: NDArray[Any]) -> str:
    """Draw one signed map, already scaled to [-1, 1]: blue is against the class, red for it."""
    flat = _reduced(np.atleast_2d(np.clip(np.nan_to_num(np.asarray(values, dtype=np.float64)), -1.0, 1.0)))
    colours = np.round(255 * mpl.colormaps[_DIVERGING](np.arange(256))[:, :3]).astype(np.uint8)
    return _png(np.round(255 * (flat + 1.0) / 2.0).astype(np.uint8), palette=colours)


def unit_scale(values: NDArray[Any]) -> NDArray[np.float64]:
    """Scale one map so that the 99.5 % quantile of its magnitude is 1; a zero map stays zero.

    Similarity does not depend on the scale of a map, so the pictures do not either.
    """
    numbers = np.nan_to_num(np.asarray(values, dtype=np.float64))
    largest = float(np.quantile(np.abs(numbers), FULL_COLOUR, method="higher")) if numbers.size else 0.0
    return numbers / largest if largest > 0 else np.zeros_like(numbers)


def _as_picture(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lay channels out as a picture: grey (H, W), colour (H, W, 3), or a strip (1, L)."""
    if image.ndim == 3:
        return np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image.mean(axis=0)
    return np.atleast_2d(image.mean(axis=0)) if image.ndim == 2 else image.reshape(1, -1)


def _reduced(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average rows and columns together until the picture is small enough."""
    most = MOST_STRIP_PIXELS if picture.shape[0] == 1 else MOST_PIXELS
    for axis in (0, 1):
        size = picture.shape[axis]
        if size > most:
            edges = np.arange(most) * size // most
            counts = np.diff(np.append(edges, size))
            summed = np.add.reduceat(picture, edges, axis=axis)
            picture = summed / np.expand_dims(
                counts, [other for other in range(picture.ndim) if other != axis]
            )
    return picture


def _png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
