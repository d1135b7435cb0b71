"""CIFAR-10 as JPEG files (quality 75), which is what can be had.

Networks that were trained on the lossless images lose some ten points on these, so the reference of a compression is
fine-tuned on the JPEG training images first, and figures are differences to it, not CIFAR-10 scores.
"""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def images(file: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first images (n, 3, 32, 32) of a file, all by default, and their classes (n,).

    The files are ordered such that prefixes hold each class equally often.
    """
    held = dict(np.load(Path(file)))
    ends = held["offsets"][: None if count is None else count + 1].tolist()
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(held["jpg"][a:b].tobytes()))) for a, b in pairwise(ends)]
    )
    return np.ascontiguousarray(np.moveaxis(pixels, 3, 1)), held["y"][: len(pixels)].astype(np.int64)
