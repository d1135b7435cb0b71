"""Series and tables of numbers as text, CSV or JSON, as a model's raw input."""

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.core.errors import InvalidRequestError

_SEPARATOR = re.compile(r"\s*[,;\t]\s*|\s+")


def decode_series(text: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    r"""Read one series.

    CSV: numbers separated by commas, semicolons, tabs or spaces, in lines of equal length; a first line of names is
    passed over. JSON: a list, or a list of lists.

    Parameters
    ----------
    shape : (length,) or (channels, length)
        -1 for any length. Several channels stand side by side, one line per moment, as recorders write them; or one
        line per channel, where that cannot be confused.

    Returns
    -------
    float64, of ``shape``

    Raises
    ------
    InvalidRequestError
        No numbers, lines of different length, or another number of values.

    Examples
    --------
    >>> decode_series("I,II\n1,10\n2,20\n3,30", (2, -1))
    array([[ 1.,  2.,  3.],
           [10., 20., 30.]])
    """
    table = _json(text) if text.lstrip().startswith("[") else _csv(text)
    if not np.isfinite(table).all():
        raise InvalidRequestError("The series holds NaN or infinity.")
    *channels, length = shape
    count = channels[0] if channels else 1
    if count == 1 and 1 in table.shape and length in (-1, table.size):
        return table.reshape(*channels, table.size)
    if count > 1 and table.shape[1] == count and length in (-1, table.shape[0]):
        return np.ascontiguousarray(table.T)
    if count > 1 and table.shape[0] == count and length in (-1, table.shape[1]):
        return table
    wanted = " x ".join("any" if size == -1 else str(size) for size in shape)
    raise InvalidRequestError(
        f"The series has {table.shape[0]} lines of {table.shape[1]} numbers, expected {wanted}."
    )


def _csv(text: str) -> NDArray[np.float64]:
    lines = [_SEPARATOR.split(line.strip().strip(",;")) for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and not any(_number(word) for word in lines[0]):
        lines = lines[1:]
    if not lines:
        raise InvalidRequestError("The series is empty.")
    if len({len(line) for line in lines}) > 1:
        raise InvalidRequestError("The lines of the series differ in length.")
    try:
        return np.array([[float(word) for word in line] for line in lines])
    except ValueError as error:
        raise InvalidRequestError(f"The series is no table of numbers: {error}.") from None


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _json(text: str) -> NDArray[np.float64]:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The series is not valid JSON.") from None
    rows = data if data and all(isinstance(row, list) for row in data) else [data]
    numbers = all(type(item) in (int, float) for row in rows for item in row)
    if not rows[0] or not numbers or len({len(row) for row in rows}) > 1:
        raise InvalidRequestError("The series is no list of numbers, nor of lists of as many numbers each.")
    try:
        return np.array(rows, dtype=np.float64)
    except OverflowError:
        raise InvalidRequestError("The series holds a number too large for a float.") from None
