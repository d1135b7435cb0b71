"""Inputs as people have them: each element of a BYTES tensor is a picture or a text, one row of the batch."""

import base64
import binascii
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Preprocessing, TensorSpec
from clearweight.artifact.preprocessing import RESIZE
from clearweight.artifact.preprocessing import white as white_of
from clearweight.service.core.datatypes import DATATYPES
from clearweight.service.core.errors import InvalidRequestError, TooLargeError, UnsupportedError
from clearweight.service.core.series import decode_series
from clearweight.service.core.types import Limits, Scalar, Tensor

PIXELS = {"byte": 255.0, "unit": 1.0}
"""What a white pixel is to the model, where the caller has to say or knows better."""


def decode_rows(
    spec: TensorSpec,
    preprocessing: Preprocessing,
    tensor: Tensor,
    parameters: Mapping[str, Scalar],
    limits: Limits,
) -> NDArray[Any]:
    """Decode a BYTES tensor [N] or [N, 1] into the raw input that the manifest's preprocessing takes.

    A model of images ([N, C, H, W]) takes PNG and JPEG files, or their base64; one of series or features
    ([N, L] or [N, C, L]) takes CSV or JSON text. The parameters ``resize`` (by default what the manifest states) and
    ``pixels`` are read here.

    Raises
    ------
    InvalidRequestError
        What cannot be decoded, or does not fit the model.
    TooLargeError
        More rows or pixels than the limits allow.
    UnsupportedError
        Pictures cannot be read, because Pillow is not installed.
    """
    rows = tensor.values.reshape(-1)
    if tensor.values.shape not in ((len(rows),), (len(rows), 1)):
        raise InvalidRequestError(
            f"Input {spec.name!r} is BYTES {list(tensor.values.shape)}, expected one element per row, [N]."
        )
    row = spec.shape[1:]
    if len(rows) * prod(max(size, 1) for size in row) > limits.elements:
        raise TooLargeError(f"{len(rows)} rows of input {spec.name!r} exceed {limits.elements} elements.")
    kind = DATATYPES[preprocessing.raw_datatype]
    if len(row) == 3:
        return _pictures(spec.name, rows, row, preprocessing, parameters, limits).astype(kind.dtype)
    if len(row) > 2 or not row:
        raise InvalidRequestError(f"Input {spec.name!r} has shape {list(spec.shape)}, which nothing encodes.")
    series = np.stack([decode_series(_text(spec.name, data), row) for data in rows])
    with np.errstate(all="ignore"):
        values = series.astype(kind.dtype)
    exact = np.isfinite(values).all() if kind.json != "integer" else np.array_equal(values, series)
    if not exact:
        raise InvalidRequestError(f"Input {spec.name!r} holds a number that is not a valid {kind.name}.")
    return values


def _pictures(
    name: str,
    rows: NDArray[Any],
    shape: tuple[int, ...],
    preprocessing: Preprocessing,
    parameters: Mapping[str, Scalar],
    limits: Limits,
) -> NDArray[Any]:
    try:
        from clearweight.service.core import image  # noqa: PLC0415  # the one part that needs Pillow
    except ImportError:
        raise UnsupportedError("Pictures need Pillow, which is not installed here.") from None
    resize = _choice(parameters, "resize", RESIZE) or preprocessing.resize
    pixels = _choice(parameters, "pixels", tuple(PIXELS))
    white = white_of(preprocessing) if pixels is None else PIXELS[pixels]
    raw_datatype = preprocessing.raw_datatype
    if raw_datatype == "UINT8":
        if pixels == "unit":
            raise InvalidRequestError(
                "The model's raw input is UINT8: parameter 'pixels' can only be 'byte'."
            )
    elif not raw_datatype.startswith("FP"):
        raise InvalidRequestError(f"The model's raw input is {raw_datatype}, which no picture holds.")
    elif white is None:
        raise InvalidRequestError(
            f"The model's raw input is {raw_datatype}, and its artifact does not say what white is: say with parameter "
            "'pixels' whether a pixel is a number from 0 to 255 ('byte') or from 0 to 1 ('unit')."
        )
    files = [_file(name, data, image.is_image) for data in rows]
    decoded = image.decode_images(files, shape, resize=resize, pixels=limits.pixels)
    if white in (None, 255.0):
        return decoded
    values = decoded / np.float32(255.0 / white)
    return np.rint(values) if raw_datatype == "UINT8" else values


def _choice(parameters: Mapping[str, Scalar], key: str, known: tuple[str, ...]) -> str | None:
    value = parameters.get(key)
    if value is not None and value not in known:
        raise InvalidRequestError(f"Parameter {key!r} is {value!r}, expected one of {', '.join(known)}.")
    return None if value is None else str(value)


def _file(name: str, data: bytes, is_image: Any) -> bytes:
    if is_image(data):
        return data
    try:
        # A data URL, as a browser makes it, or the bare base64 behind its comma.
        found = base64.b64decode(b"".join(data.rpartition(b",")[2].split()), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not is_image(found):
        raise InvalidRequestError(
            f"Input {name!r} holds an element that is neither PNG nor JPEG, nor base64 of one."
        )
    return found


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"Input {name!r} holds an element that is no UTF-8 text.") from None
