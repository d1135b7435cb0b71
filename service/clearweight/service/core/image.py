"""PNG and JPEG files as a model's raw input: colours, size, and limits that hold before a pixel is decoded."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from clearweight.artifact.preprocessing import RESIZE
from clearweight.service.core.errors import InvalidRequestError, TooLargeError

_FORMATS: dict[bytes, type[ImageFile]] = {b"\x89PNG\r\n\x1a\n": PngImageFile, b"\xff\xd8\xff": JpegImageFile}
_MODES = {1: "L", 3: "RGB"}
_DEEP = ("I", "F")  # modes of more than eight bits per channel begin so


def is_image(data: bytes) -> bool:
    """Tell whether bytes begin as a PNG or JPEG file does."""
    return data.startswith(tuple(_FORMATS))


def decode_images(
    files: Sequence[bytes], shape: tuple[int, ...], *, resize: str | None, pixels: int
) -> NDArray[np.uint8]:
    """Decode files into a batch.

    Grey is Rec. 601 luma; transparency lies on black; the orientation a camera notes is applied. Resizing is bilinear
    over the whole area that a pixel covers.

    Parameters
    ----------
    shape : (channels, height, width)
        Channels 1 or 3; height and width -1 for any.
    resize : {"stretch", "crop"}, optional
        None refuses another size.
    pixels : int
        Limit on the pixels of all files together, held against what they state before they are decoded.

    Returns
    -------
    uint8, shape (len(files), channels, height, width)

    Raises
    ------
    InvalidRequestError
        No PNG or JPEG, damaged, deeper than eight bits, or of another size.
    TooLargeError
        More pixels than allowed.
    """
    if shape[0] not in _MODES:
        raise InvalidRequestError(f"Images have 1 or 3 channels, the model's input has {shape[0]}.")
    opened = [_open(index, data) for index, data in enumerate(files)]
    stated = sum(image.width * image.height for image in opened)
    if stated > pixels:
        raise TooLargeError(f"The images have {stated} pixels, the limit of one request is {pixels}.")
    arrays = [_decode(index, image, shape, resize) for index, image in enumerate(opened)]
    if len({values.shape for values in arrays}) > 1:
        raise InvalidRequestError("The images differ in size, and one batch has one.")
    return np.stack(arrays)


def _open(index: int, data: bytes) -> ImageFile:
    for magic, kind in _FORMATS.items():
        if data.startswith(magic):
            try:
                return kind(BytesIO(data))
            except Exception as error:  # noqa: BLE001  # the decoders raise a dozen unrelated classes
                raise InvalidRequestError(f"Image {index} cannot be read: {error}") from None
    raise InvalidRequestError(f"Image {index} is neither PNG nor JPEG.")


def _decode(index: int, image: ImageFile, shape: tuple[int, ...], resize: str | None) -> NDArray[np.uint8]:
    if image.mode.startswith(_DEEP):
        raise InvalidRequestError(f"Image {index} has more than eight bits per channel.")
    try:
        upright: Image.Image = ImageOps.exif_transpose(image)
        if "transparency" in upright.info or upright.mode in ("LA", "PA", "RGBA"):
            clear = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear)
        converted = upright.convert(_MODES[shape[0]])
    except Exception as error:  # noqa: BLE001  # as above
        raise InvalidRequestError(f"Image {index} cannot be decoded: {error}") from None
    height, width = (
        found if wanted == -1 else wanted
        for wanted, found in zip(shape[1:], (converted.height, converted.width), strict=True)
    )
    if (converted.width, converted.height) != (width, height):
        if resize is None:
            raise InvalidRequestError(
                f"Image {index} is {converted.width} x {converted.height} pixels, expected {width} x {height}; "
                f"parameter 'resize' ({' or '.join(RESIZE)}) allows another size."
            )
        converted = _resize(converted, (width, height), resize)
    values: NDArray[Any] = np.asarray(converted, dtype=np.uint8)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _resize(image: Image.Image, size: tuple[int, int], how: str) -> Image.Image:
    if how == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)
