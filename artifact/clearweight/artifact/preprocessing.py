"""From a caller's raw numbers to the model's input; the same arithmetic at export and at service time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.errors import PreprocessingError
from clearweight.artifact.manifest import Preprocessing

RESIZE = ("stretch", "crop")
"""To the model's size without regard to proportions; or the shorter side to it, and the middle of the longer. Both are
bilinear over the whole area that a pixel covers, and act on pictures, before ``apply`` sees numbers."""
# Open Inference Protocol names of the types raw inputs may have.
RAW_DATATYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype(np.uint8),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}


def white(preprocessing: Preprocessing) -> float | None:
    """Return the raw value of a white pixel; None where floats are taken and nobody said what they stand for.

    Examples
    --------
    >>> white(Preprocessing("UINT8")), white(Preprocessing("UINT8", white=16.0)), white(Preprocessing("FP32"))
    (255.0, 16.0, None)
    """
    if preprocessing.white is None and preprocessing.raw_datatype == "UINT8":
        return 255.0
    return preprocessing.white


def apply(preprocessing: Preprocessing, raw: NDArray[Any]) -> NDArray[np.float32]:
    """Turn raw inputs into model inputs.

    ``x = (float32(raw) * scale - mean) / std``, every step in float32 and in this order, so that
    exporter and device agree bit for bit. Steps that change nothing are not run.

    Parameters
    ----------
    preprocessing : Preprocessing
        ``mean`` and ``std`` hold one number per channel (axis 1), one number, or none.
    raw : array, shape (N, ...)

    Returns
    -------
    float32, same shape as ``raw``

    Raises
    ------
    PreprocessingError
        The channels of ``raw`` do not match ``mean`` and ``std``.

    Examples
    --------
    >>> apply(Preprocessing(raw_datatype="UINT8", scale=0.5, mean=(1.0,), std=(2.0,)), np.array([[2], [6]]))
    array([[0.],
           [1.]], dtype=float32)
    """
    x = np.asarray(raw).astype(np.float32)
    if preprocessing.scale != 1.0:
        x *= np.float32(preprocessing.scale)
    if preprocessing.mean:
        x -= _per_channel(preprocessing.mean, x, "mean")
    if preprocessing.std:
        x /= _per_channel(preprocessing.std, x, "std")
    return x


def _per_channel(numbers: tuple[float, ...], x: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    column = np.asarray(numbers, dtype=np.float32)
    if column.size == 1:
        return column
    if x.ndim < 2 or x.shape[1] != column.size:
        raise PreprocessingError(f"Input of shape {x.shape} does not fit {column.size} channels of {what}.")
    return column.reshape((1, -1) + (1,) * (x.ndim - 2))
