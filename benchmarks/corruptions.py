"""Pictures as a worn or badly lit camera takes them (after Hendrycks and Dietterich, ICLR 2019, appendix A).

What an objective was trained to keep on clean inputs it may lose on others, so similarity is measured on these too.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
Generator = np.random.Generator


def gaussian_noise(images: Floats, draws: Generator) -> Floats:
    """Add noise with a standard deviation of 0.15."""
    return images + draws.normal(0.0, 0.15, images.shape)


def impulse_noise(images: Floats, draws: Generator) -> Floats:
    """Set one place in twenty to black or white, all channels alike."""
    drawn = draws.random((len(images), 1, *images.shape[2:]))
    return np.where(drawn < 0.025, 0.0, np.where(drawn > 0.975, 1.0, images))


def blur(images: Floats, _draws: Generator) -> Floats:
    """Blur with a Gaussian of one pixel."""
    return ndimage.gaussian_filter(images, (0, 0, 1.0, 1.0))


def contrast(images: Floats, _draws: Generator) -> Floats:
    """Take contrast to two fifths around each image's mean."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + 0.4 * (images - mean)


def rotation(images: Floats, draws: Generator) -> Floats:
    """Turn each image by 10 to 20 degrees either way, edges repeated."""
    degrees = draws.uniform(10.0, 20.0, len(images)) * draws.choice((-1.0, 1.0), len(images))
    return np.stack(
        [
            ndimage.rotate(image, angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
            for image, angle in zip(images, degrees, strict=True)
        ]
    )


def brightness(images: Floats, _draws: Generator) -> Floats:
    """Make everything brighter by a quarter of the range."""
    return images + 0.25


CORRUPTIONS: Mapping[str, Callable[[Floats, Generator], Floats]] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "impulse_noise": impulse_noise,
        "blur": blur,
        "contrast": contrast,
        "rotation": rotation,
        "brightness": brightness,
    }
)


def corrupted(images: Images, seed: int = 0) -> Images:
    """Corrupt each image by one of `CORRUPTIONS`, in turn; uint8 (n, channels, height, width), as is what returns."""
    draws = np.random.default_rng(seed)
    found = np.empty_like(images)
    for number, corruption in enumerate(CORRUPTIONS.values()):
        chosen = images[number :: len(CORRUPTIONS)] / 255.0
        found[number :: len(CORRUPTIONS)] = np.rint(255.0 * np.clip(corruption(chosen, draws), 0.0, 1.0))
    return found
