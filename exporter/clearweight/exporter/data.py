"""Labelled arrays from a user's file or callable: npz, IDX, a folder of images, or `module:callable`."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from clearweight.artifact.preprocessing import RESIZE
from clearweight.exporter.errors import DataError
from clearweight.exporter.source import load_callable

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


@dataclass(frozen=True, eq=False)
class Labelled:
    """Raw inputs with their labels, as they were stored.

    Attributes
    ----------
    inputs : uint8 or float32, (n, *shape of one network input)
    labels : int64, (n,)
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: NDArray[np.int64] | slice) -> "Labelled":
        return Labelled(self.inputs[index], self.labels[index])


def read_npz(path: Path, inputs: str, labels: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read two named arrays of an npz file (never pickled objects).

    Raises
    ------
    DataError
        It is no npz file, has no such array, or one holds Python objects.
    """
    try:
        with path.open("rb") as file:
            arrays: Any = np.load(file, allow_pickle=False)
            known = getattr(arrays, "files", None)  # a bare .npy has none
            found = {name: arrays[name] for name in (inputs, labels) if known and name in known}
    except (OSError, ValueError, BadZipFile) as error:
        raise DataError(f"{str(path)!r} cannot be read as npz: {error}") from error
    if known is None:
        raise DataError(f"{str(path)!r} cannot be read as npz: it holds one bare array.")
    for name in (inputs, labels):
        if name not in found:
            raise DataError(f"{str(path)!r} has no array {name!r}. It has: {', '.join(known)}.")
    return found[inputs], found[labels]


def read_idx(path: Path) -> NDArray[Any]:
    """Read one IDX file (the format of the MNIST distribution), gzipped or not.

    Raises
    ------
    DataError
        Wrong magic, unknown element type, or a size other than the header says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_TYPES:
        raise DataError(
            f"{str(path)!r} begins with {data[:4].hex()}, expected an IDX header such as 00000803."
        )
    rank = data[3]
    head = 4 + 4 * rank
    if len(data) < head:
        raise DataError(f"{str(path)!r} holds {len(data)} bytes, expected a header of {head}.")
    shape = struct.unpack(f">{rank}I", data[4:head])
    kind = np.dtype(IDX_TYPES[data[2]])
    expected = head + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(data) != expected:
        raise DataError(f"{str(path)!r} holds {len(data)} bytes, expected {expected} for shape {shape}.")
    return np.frombuffer(data, kind, offset=head).reshape(shape).astype(kind.newbyteorder("="))


def read_image_folder(
    folder: Path, shape: tuple[int, ...], resize: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read ``folder/CLASS/*.png`` (or jpg, bmp) as uint8 images; classes are the sorted folder names.

    Parameters
    ----------
    shape : (channels, height, width) of the network's input; channels 1 or 3
    resize : "stretch" or "crop" (`artifact.preprocessing.RESIZE`); None refuses images of another size

    Raises
    ------
    DataError
        The shape is no image's, a file cannot be read or has another size, or there is none.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"An image folder needs an input of shape (1 or 3, height, width), found {shape}.")
    images, labels = [], []
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    for label, directory in enumerate(classes):
        for path in sorted(p for p in directory.iterdir() if p.suffix.lower() in IMAGE_ENDINGS):
            try:
                with Image.open(path) as opened:
                    image = _upright(opened).convert("L" if shape[0] == 1 else "RGB")
            except (UnidentifiedImageError, OSError) as error:
                raise DataError(f"{str(path)!r} is not an image that can be read: {error}.") from error
            pixels = np.asarray(_sized(image, (shape[2], shape[1]), resize, path))
            images.append(pixels.reshape(shape) if shape[0] == 1 else pixels.transpose(2, 0, 1))
            labels.append(label)
    if not images:
        raise DataError(f"{str(folder)!r} holds no images; expected {str(folder)!r}/CLASS/*.png.")
    return np.stack(images), np.asarray(labels, dtype=np.int64)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation that a camera noted, and put what is transparent on black, as the service does."""
    turned: Image.Image = ImageOps.exif_transpose(image)
    if "transparency" not in turned.info and turned.mode not in ("LA", "PA", "RGBA"):
        return turned
    clear = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear)


def _sized(image: Image.Image, size: tuple[int, int], resize: str | None, path: Path) -> Image.Image:
    if image.size == size:
        return image
    if resize is None:
        raise DataError(
            f"{str(path)!r} is {image.width} x {image.height} pixels, expected {size[0]} x {size[1]}; "
            f"preprocessing.resize ({' or '.join(RESIZE)}) allows another size."
        )
    if resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)


def labelled(inputs: Any, labels: Any, input_shape: tuple[int, ...], origin: str) -> Labelled:
    """Check raw arrays against the network's input and bring them into shape.

    Raises
    ------
    DataError
        Lengths differ, the element type is neither uint8 nor floating, the labels are no integers, or the inputs
        cannot be seen as ``(n, *input_shape)``.
    """
    x, y = np.asarray(inputs), np.asarray(labels)
    if len(x) != len(y):
        raise DataError(f"{origin}: {len(x)} inputs but {len(y)} labels.")
    if x.dtype != np.uint8:
        if not np.issubdtype(x.dtype, np.floating):
            raise DataError(f"{origin}: the inputs are {x.dtype}, expected uint8 or floating point.")
        x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise DataError(f"{origin}: the inputs hold values that are not finite.")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or (len(y) and y.min() < 0):
        raise DataError(
            f"{origin}: the labels are {y.dtype} of shape {y.shape}, expected class indices of shape (n,)."
        )
    if x[0:1].size != int(np.prod(input_shape)):
        raise DataError(f"{origin}: one input has shape {x.shape[1:]}, expected {input_shape}.")
    return Labelled(np.ascontiguousarray(x.reshape(len(x), *input_shape)), y.astype(np.int64))


def from_callable(reference: str, input_shape: tuple[int, ...], arguments: dict[str, Any]) -> Labelled:
    """Call ``module:callable``, which returns (inputs, labels)."""
    result = load_callable(reference)(**arguments)
    if not isinstance(result, tuple) or len(result) != 2:
        raise DataError(f"{reference!r} returned {type(result).__name__}, expected a tuple (inputs, labels).")
    return labelled(*result, input_shape, reference)
