"""Attribution maps as pictures: a heat map, or the input with the map laid over it."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from clearweight.service.core.colours import diverging

QUANTILE = 0.99
"""Full colour is reached by this share of the map's magnitudes, so that one bright point does not fade the rest."""
_SHORTEST = 256
_LONGEST = 2048
_PANEL = 96
_INK = (23, 23, 23)
_COVER = 0.85


def draw(values: NDArray[Any], given: NDArray[Any], kind: str) -> tuple[bytes, float]:
    """Draw the map of one row.

    Parameters
    ----------
    values : float, shape (C, h, w), (C, l) or (l,)
        Channels of an image are added up; channels of a series stand below each other.
    given : float, shape (C, H, W), (C, L) or (L,)
        The input that the map explains, after preprocessing; a coarser map is spread over it.
    kind : {"heatmap", "overlay"}

    Returns
    -------
    png : bytes
    scale : float
        The value that full colour stands for, red above zero and blue below; 0 where the whole map is.
    """
    signed = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    if signed.ndim == 3:
        signed = signed.sum(axis=0)
    scale = float(np.quantile(np.abs(signed), QUANTILE)) or float(np.abs(signed).max())
    shares = signed / scale if scale else signed
    image = _plane(shares, given, kind) if values.ndim == 3 else _traces(shares, given, kind)
    notes = PngInfo()
    notes.add_text("Description", f"{kind}: white 0, red +{scale:.6g}, blue -{scale:.6g}")
    out = BytesIO()
    image.save(out, "PNG", pnginfo=notes, compress_level=6)
    return out.getvalue(), scale


def _plane(shares: NDArray[Any], given: NDArray[Any], kind: str) -> Image.Image:
    height, width = given.shape[1:]
    if shares.shape != (
        height,
        width,
    ):  # a feature map's: between its places nothing is known, so it is spread evenly
        spread = Image.fromarray(shares.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        shares = np.asarray(spread)
    colours = diverging(shares)
    if kind == "overlay":
        # Strength is told by how much is covered; a pale colour would only wash the picture out.
        strong = diverging(np.sign(shares) * (0.5 + 0.5 * np.abs(shares)))
        grey = _unit(given.astype(np.float64).mean(axis=0))[..., None] * 255
        cover = _COVER * np.minimum(np.abs(shares), 1.0)[..., None] ** 0.75
        colours = np.round((1 - cover) * grey + cover * strong).astype(np.uint8)
    times = max(1, min(-(-_SHORTEST // min(height, width)), _LONGEST // max(height, width)))
    return Image.fromarray(colours).resize((width * times, height * times), Image.Resampling.NEAREST)


def _traces(shares: NDArray[Any], given: NDArray[Any], kind: str) -> Image.Image:
    """One panel per channel: time to the right, the map as its background, the series drawn upon it."""
    signal = np.atleast_2d(given.astype(np.float64))
    panels, length = signal.shape
    shares = np.atleast_2d(shares)
    width = min(_LONGEST, length * max(1, -(-3 * _SHORTEST // length)))
    places = (np.arange(width) * shares.shape[1] // width).astype(np.intp)
    image = Image.new("RGB", (width, panels * _PANEL), "white")
    for panel in range(panels):
        row = diverging(shares[panel % len(shares)][places])
        top = panel * _PANEL
        image.paste(Image.fromarray(np.repeat(row[None], _PANEL - 4, axis=0)), (0, top + 2))
        if kind == "overlay":
            heights = top + _PANEL - 10 - _unit(signal[panel]) * (_PANEL - 20)
            centres = (np.arange(length) + 0.5) * width / length
            points = list(zip(centres.tolist(), heights.tolist(), strict=True))
            ImageDraw.Draw(image).line(points, fill=_INK, width=2, joint="curve")
    return image


def _unit(values: NDArray[Any]) -> NDArray[np.float64]:
    """Stretch to 0 to 1; something flat lies in the middle."""
    low, high = values.min(), values.max()
    stretched: NDArray[np.float64] = (
        (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    )
    return stretched
