"""The core's own request and reply; both transports translate to and from these and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import TensorSpec
from clearweight.service.drift import DriftReport, FidelityReport, IntegrityReport

Scalar: TypeAlias = bool | int | float | str
"""What a protocol parameter may hold; anything per row is a tensor."""


# The three of every request are not frozen, though nobody changes them: frozen ones take four times as long to make.
@dataclass(slots=True, eq=False)
class Tensor:
    """One named tensor with its protocol datatype.

    ``values`` has the tensor's shape. ``BF16`` is carried as ``uint16`` bit patterns and ``BYTES`` as an object
    array of ``bytes``, because numpy has no such types.
    """

    name: str
    datatype: str
    values: NDArray[Any]


@dataclass(slots=True, eq=False)
class InferRequest:
    """One call of predict or explain; ``outputs`` None asks for all of them.

    ``classification`` names outputs to be given as so many class strings, by Triton's classification extension.
    """

    model: str
    version: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] | None = None
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    id: str | None = None
    classification: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class InferResponse:
    """The answer: tensors in the order asked, parameters that say how they came about."""

    model: str
    version: str
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on one request.

    ``elements`` of one tensor, sent or made for the request; ``steps`` of an explainer that lets its caller choose;
    ``explain_rows`` of the network: batch x steps. ``pixels`` of all pictures sent, before any is decoded.
    """

    body_bytes: int = 64 * 1024 * 1024
    elements: int = 16 * 1024 * 1024
    steps: int = 1024
    explain_rows: int = 4096
    pixels: int = 25_000_000


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelState:
    """One line of the repository's index.

    ``state`` is UNKNOWN (on disk, never asked for), READY, UNAVAILABLE, LOADING or UNLOADING; ``reason`` says why it
    does not serve, or why the newest attempt to replace it failed.
    """

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Outputs by name, first one the logits; who gave them."""

    model: str
    version: str
    outputs: dict[str, NDArray[Any]]

    @property
    def logits(self) -> NDArray[Any]:
        """The first output, float [N, classes]."""
        return next(iter(self.outputs.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation(Prediction):
    """A prediction with its attribution map, the class it explains per row, and how it came about."""

    map: NDArray[np.float32]
    target: NDArray[np.int64]
    completeness_error: NDArray[np.float32] | None
    parameters: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """The three questions, answered for one model."""

    model: str
    version: str
    ready: bool
    reason: str
    fidelity: FidelityReport | None
    integrity: IntegrityReport | None
    drift: DriftReport
