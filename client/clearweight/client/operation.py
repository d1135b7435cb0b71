"""What can be asked of a service and what it answers, whichever way it travels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = bool | int | float | str
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether a model serves, or all of them."""

    model: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """The names of all models."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a model takes and gives."""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """Fidelity, integrity and drift of a model."""

    model: str
    version: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Infer:
    """Predict or explain; object arrays of ``bytes`` are pictures or texts."""

    verb: str
    model: str
    version: str | None
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Scalar]


Operation: TypeAlias = Ready | Models | Metadata | Drift | Infer


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output; -1 is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives; ``properties`` say which explainers there are and what they offer."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """The tensors of an answer, in its order."""

    model: str
    version: str
    tensors: Mapping[str, Array]
    parameters: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class RankedClass:
    """One of the likeliest classes of a row."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The model's outputs by name, the logits first.

    Attributes
    ----------
    classes : the likeliest classes of each row, where they were asked for
    """

    model: str
    version: str
    outputs: Mapping[str, Array]
    classes: tuple[tuple[RankedClass, ...], ...] = ()

    @property
    def logits(self) -> Array:
        """The first output, [N, classes]."""
        return next(iter(self.outputs.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation(Prediction):
    """A prediction with its attribution map.

    Attributes
    ----------
    map : float32, the shape of the input, or of the feature map that the method explains
    target : int64, [N], the class that each row's map explains
    completeness_error : float32, [N], or None where the method has none
    parameters : how the map came about: method, baseline, steps, seed, digests, fidelity, drift state
    pictures : one PNG per row, where they were asked for
    """

    map: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    target: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    completeness_error: Array | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    pictures: tuple[bytes, ...] = ()


def prediction(found: Inferred) -> Prediction:
    """Sort an answer's tensors."""
    tensors = dict(found.tensors)
    classes = _classes(tensors)
    return Prediction(found.model, found.version, tensors, classes)


def explanation(found: Inferred) -> Explanation:
    """Sort an answer's tensors."""
    tensors = dict(found.tensors)
    classes = _classes(tensors)
    pictures = tensors.pop("picture", None)
    tensors.pop("picture_scale", None)
    return Explanation(
        found.model,
        found.version,
        map=tensors.pop("explain"),
        target=tensors.pop("target"),
        completeness_error=tensors.pop("completeness_error", None),
        parameters=found.parameters,
        pictures=() if pictures is None else tuple(bytes(png) for png in pictures),
        outputs=tensors,
        classes=classes,
    )


def _classes(tensors: dict[str, Array]) -> tuple[tuple[RankedClass, ...], ...]:
    names = ("class", "label", "probability")
    if not all(name in tensors for name in names):
        return ()
    columns = [tensors.pop(name).tolist() for name in names]
    return tuple(
        tuple(RankedClass(index, label.decode(), share) for index, label, share in zip(*row, strict=True))
        for row in zip(*columns, strict=True)
    )
