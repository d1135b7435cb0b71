"""What a caller may ask of an explanation, read from protocol parameters and a per-row target tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Explainer, Manifest
from clearweight.service.core.errors import InvalidRequestError, UnsupportedError
from clearweight.service.core.types import Limits, Scalar, Tensor

TARGET = "target"
"""Name of the per-row class tensor, in requests and replies; -1 asks for the arg-max of the same run."""


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """A checked choice of explainer and its settings."""

    method: str
    explainer: Explainer
    steps: int
    baseline: str
    seed: int
    target: int


def explain_options(manifest: Manifest, parameters: Mapping[str, Scalar], limits: Limits) -> ExplainOptions:
    """Read ``method``, ``target``, ``steps``, ``baseline`` and ``seed``; other keys are not ours.

    The explainers of this format are single-pass graphs: they take one step, the baseline they were exported
    with, and any seed (nothing in them is random, so the seed is only echoed).

    Raises
    ------
    UnsupportedError
        The artifact has no explainer at all.
    InvalidRequestError
        An unknown method, a target out of range, or a setting the method does not take.
    """
    if manifest.default_explainer is None:
        raise UnsupportedError(
            f"Model {manifest.name!r} version {manifest.version!r} was built without explainers."
        )
    method = parameters.get("method", manifest.default_explainer)
    explainer = manifest.explainers.get(method) if isinstance(method, str) else None
    if explainer is None:
        raise InvalidRequestError(
            f"Unknown method {method!r}. Known methods: {', '.join(manifest.explainers)}."
        )
    steps = _integer(parameters, "steps", 1, 1, limits.steps)
    if steps != 1:
        raise InvalidRequestError(f"Method {method!r} is a single pass: steps is {steps}, expected 1.")
    baseline = parameters.get("baseline", explainer.baseline)
    if baseline != explainer.baseline:
        raise InvalidRequestError(
            f"Method {method!r} was exported with baseline {explainer.baseline!r}, not {baseline!r}."
        )
    return ExplainOptions(
        method=str(method),
        explainer=explainer,
        steps=steps,
        baseline=explainer.baseline,
        seed=_integer(parameters, "seed", 0, 0, 2**63 - 1),
        target=_integer(parameters, TARGET, -1, -1, classes(manifest) - 1),
    )


def _integer(parameters: Mapping[str, Scalar], key: str, default: int, low: int, high: int) -> int:
    value = parameters.get(key, default)
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequestError(
            f"Parameter {key!r} is {value!r}, expected an integer from {low} to {high}."
        )
    return value


def classes(manifest: Manifest) -> int:
    """Return the number of classes, the last axis of the first output."""
    return manifest.outputs[0].shape[-1]


def split_target(inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Separate the per-row ``target`` tensor from the model's own inputs."""
    rest = tuple(tensor for tensor in inputs if tensor.name != TARGET)
    found = [tensor for tensor in inputs if tensor.name == TARGET]
    if len(found) > 1:
        raise InvalidRequestError(f"Input {TARGET!r} is given twice.")
    return rest, found[0] if found else None


def row_targets(
    tensor: Tensor | None, options: ExplainOptions, rows: int, count: int, *, both: bool
) -> NDArray[Any]:
    """Return the class to explain per row.

    Parameters
    ----------
    rows, count : int
        Batch size and number of classes.
    both : bool
        The request also carried the parameter ``target``.

    Returns
    -------
    int64, shape (rows,)

    Raises
    ------
    InvalidRequestError
        The tensor is not INT64 [rows], a class is out of range, or both forms were given.
    """
    if tensor is None:
        return np.full(rows, options.target, dtype=np.int64)
    if both:
        raise InvalidRequestError("Give the target as a parameter or as a tensor, not both.")
    if tensor.datatype != "INT64" or tensor.values.shape != (rows,):
        raise InvalidRequestError(
            f"Input {TARGET!r} is {tensor.datatype} {list(tensor.values.shape)}, expected INT64 [{rows}]."
        )
    low, high = int(tensor.values.min()), int(tensor.values.max())
    if low < -1 or high >= count:
        raise InvalidRequestError(
            f"Input {TARGET!r} holds class {low if low < -1 else high}, expected -1 to {count - 1}."
        )
    return tensor.values
