"""What a caller may ask of an explanation, read from protocol parameters and from what tensors came along."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Explainer, Manifest
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.errors import InvalidRequestError, UnsupportedError
from clearweight.service.core.types import Limits, Scalar, Tensor

TARGET = "target"
"""Name of the per-row class tensor, in requests and replies; -1 asks for the arg-max of the same run."""
PREPROCESS = "preprocess"
"""Parameter that says that the input is raw although raw values have the model's own type."""
VARIANT = "variant"
"""Parameter that asks for the map of the uncompressed ``reference`` where the service has it loaded."""
REFERENCE = "reference"
GIVEN = "input"
"""Name of the baseline that came as a tensor."""
BASELINES = ("zero", "black", GIVEN)
"""Zero after preprocessing; zero before it; the caller's tensor. For explainers that take a baseline."""
_NOTHING_DRAWN = ((), (BASELINE,))


@dataclass(slots=True, eq=False)
class ExplainOptions:
    """A checked choice of explainer and its settings."""

    method: str
    explainer: Explainer
    steps: int
    baseline: str
    seed: int
    target: int


def explain_options(
    manifest: Manifest, parameters: Mapping[str, Scalar], limits: Limits, *, own_baseline: bool = False
) -> ExplainOptions:
    """Read ``method``, ``target``, ``steps``, ``baseline`` and ``seed``; other keys are not ours.

    Parameters
    ----------
    own_baseline : bool
        The request carries a tensor ``baseline``.

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
    return ExplainOptions(
        method=explainer.method,
        explainer=explainer,
        steps=_steps(explainer, parameters, limits),
        baseline=_baseline(manifest, explainer, parameters.get(BASELINE), own=own_baseline),
        seed=_integer(parameters, "seed", 0, 0, 2**63 - 1),
        target=_integer(parameters, TARGET, -1, -1, classes(manifest) - 1),
    )


def takes_steps(explainer: Explainer) -> bool:
    """Tell whether a caller may choose the number of steps: path points, draws or masks.

    The other explainers are a single pass, or a fixed number of them that the graph itself holds (occlusion).
    """
    return explainer.inputs not in _NOTHING_DRAWN


def baseline_choices(explainer: Explainer) -> tuple[str, ...]:
    """Return the values that the parameter ``baseline`` may have."""
    return BASELINES if BASELINE in explainer.inputs else (explainer.baseline,)


def _steps(explainer: Explainer, parameters: Mapping[str, Scalar], limits: Limits) -> int:
    if takes_steps(explainer):
        return _integer(parameters, "steps", explainer.steps, 1, limits.steps)
    steps = parameters.get("steps", explainer.steps)
    if type(steps) is not int or steps != explainer.steps:
        passes = "is a single pass" if explainer.steps == 1 else f"has {explainer.steps} fixed steps"
        raise InvalidRequestError(
            f"Method {explainer.method!r} {passes}: steps is {steps!r}, expected {explainer.steps}."
        )
    return explainer.steps


def _baseline(manifest: Manifest, explainer: Explainer, asked: Scalar | None, *, own: bool) -> str:
    if BASELINE not in explainer.inputs:
        if own:
            raise InvalidRequestError(
                f"Method {explainer.method!r} takes no input {BASELINE!r}. Methods that do: "
                f"{_takers(manifest) or 'none of this model'}."
            )
        if asked not in (None, explainer.baseline):
            raise InvalidRequestError(
                f"Method {explainer.method!r} has the baseline {explainer.baseline!r}, not {asked!r}. "
                f"Methods with a choice: {_takers(manifest) or 'none of this model'}."
            )
        return explainer.baseline
    if own:
        if asked not in (None, GIVEN):
            raise InvalidRequestError("Give the baseline as a parameter or as a tensor, not both.")
        return GIVEN
    if asked == GIVEN:
        raise InvalidRequestError(f"Parameter {BASELINE!r} is {GIVEN!r}, but there is no input {BASELINE!r}.")
    if asked not in (None, *BASELINES):
        raise InvalidRequestError(
            f"Parameter {BASELINE!r} is {asked!r}, expected 'zero', 'black', or a tensor of that name instead."
        )
    return BASELINES[0] if asked is None else str(asked)


def _takers(manifest: Manifest) -> str:
    return ", ".join(name for name, entry in manifest.explainers.items() if BASELINE in entry.inputs)


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


def take(inputs: tuple[Tensor, ...], name: str) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Separate one tensor from the others by its name.

    Raises
    ------
    InvalidRequestError
        It is there twice.
    """
    found = [tensor for tensor in inputs if tensor.name == name]
    if not found:
        return inputs, None
    if len(found) > 1:
        raise InvalidRequestError(f"Input {name!r} is given twice.")
    return tuple(tensor for tensor in inputs if tensor.name != name), found[0]


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
