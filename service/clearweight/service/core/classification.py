"""Logits as answers for people: the likeliest classes with their labels and probabilities."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.types import Scalar, Tensor

CLASSIFICATION = "classification"
"""Name of the parameter: how many classes, the likeliest first."""
NAMES = ("class", "label", "probability")


def check_count(count: Scalar, output: str) -> int:
    """Return how many classes of an output a request asks for.

    Raises
    ------
    InvalidRequestError
        No positive integer.
    """
    if type(count) is not int or count < 1:
        raise InvalidRequestError(
            f"{CLASSIFICATION!r} of output {output!r} is {count!r}, expected a positive integer."
        )
    return count


def likeliest(logits: NDArray[np.floating], labels: Sequence[str], count: int) -> tuple[Tensor, ...]:
    """Return the ``count`` likeliest classes of each row: ``class``, ``label`` and ``probability``, each [N, count].

    All classes where there are fewer. Probabilities are the softmax of the logits; ties fall to the lower class. A
    class without a label is its number.
    """
    order, shifted = _order(logits, count), logits.astype(np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    probability = np.take_along_axis(shifted / shifted.sum(axis=1, keepdims=True), order, axis=1)
    named = np.empty(order.shape, dtype=object)
    named[...] = [[_label(labels, index).encode() for index in row] for row in order.tolist()]
    return (
        Tensor(NAMES[0], "INT64", order),
        Tensor(NAMES[1], "BYTES", named),
        Tensor(NAMES[2], "FP32", probability.astype(np.float32)),
    )


def triton_strings(name: str, values: NDArray[np.floating], labels: Sequence[str], count: int) -> Tensor:
    """Return an output in the form of Triton's classification extension: BYTES [N, count] of ``value:index:label``.

    Source: Triton Inference Server, classification extension; the label and its colon are left out without labels.
    """
    order = _order(values, count)
    strings = np.empty(order.shape, dtype=object)
    strings[...] = [
        [
            f"{value:f}:{index}{':' + labels[index] if index < len(labels) else ''}".encode()
            for value, index in zip(row[chosen].tolist(), chosen.tolist(), strict=True)
        ]
        for row, chosen in zip(values, order, strict=True)
    ]
    return Tensor(name, "BYTES", strings)


def _order(values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    return np.argsort(-values, axis=1, kind="stable")[:, :count].astype(np.int64)


def _label(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)
