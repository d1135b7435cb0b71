"""What a program in the same process gives and gets: arrays to the core's request, the core's reply to arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.datatypes import datatype_of
from clearweight.service.core.errors import InvalidRequestError, UnavailableError
from clearweight.service.core.explain_job import COMPLETENESS, MAP
from clearweight.service.core.parameters import PREPROCESS, TARGET
from clearweight.service.core.repository import Repository
from clearweight.service.core.types import (
    Explanation,
    InferRequest,
    InferResponse,
    Prediction,
    Scalar,
    Tensor,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a program asks for beside the inputs; ``Engine.explain`` says what each means."""

    target: int | NDArray[Any] | None = None
    method: str | None = None
    steps: int | None = None
    baseline: str | NDArray[Any] | None = None
    seed: int | None = None
    preprocess: bool = False

    def parameters(self) -> dict[str, Scalar]:
        """Return what travels as protocol parameters."""
        asked: dict[str, Scalar | None] = {"method": self.method, "steps": self.steps, "seed": self.seed}
        if self.target is not None and not isinstance(self.target, np.ndarray):
            asked[TARGET] = int(self.target)
        if not isinstance(self.baseline, np.ndarray):
            asked[BASELINE] = self.baseline
        if self.preprocess:
            asked[PREPROCESS] = True
        return {key: value for key, value in asked.items() if value is not None}

    def tensors(self) -> tuple[Tensor, ...]:
        """Return what travels as tensors."""
        found: tuple[Tensor, ...] = ()
        if isinstance(self.target, np.ndarray):
            found = (Tensor(TARGET, "INT64", self.target.astype(np.int64, casting="safe")),)
        if isinstance(self.baseline, np.ndarray):
            found = (*found, Tensor(BASELINE, datatype_of(self.baseline), self.baseline))
        return found


def request_for(
    repository: Repository,
    x: NDArray[Any] | Mapping[str, NDArray[Any]],
    model: str | None,
    version: str | None,
    choice: Choice | None = None,
) -> InferRequest:
    """Write a request for arrays; one model and one input need no name.

    Raises
    ------
    UnavailableError, InvalidRequestError
        No model is loaded, or several are and none is named.
    """
    choice = choice or Choice()
    if model is None:
        names = repository.names
        if not names:
            raise UnavailableError("No model is loaded.")
        if len(names) > 1:
            raise InvalidRequestError(f"Several models are loaded, name one: {', '.join(names)}.")
        model = names[0]
    if not isinstance(x, Mapping):
        x = {repository.slot(model, version).serving().input_names[0]: np.asarray(x)}
    tensors = tuple(Tensor(name, datatype_of(values), values) for name, values in x.items())
    return InferRequest(model, version, tensors + choice.tensors(), parameters=choice.parameters())


def prediction(response: InferResponse) -> Prediction:
    """Read the reply to a predict request."""
    return Prediction(response.model, response.version, {t.name: t.values for t in response.outputs})


def explanation(response: InferResponse) -> Explanation:
    """Read the reply to an explain request."""
    found = {tensor.name: tensor.values for tensor in response.outputs}
    return Explanation(
        model=response.model,
        version=response.version,
        map=found.pop(MAP),
        target=found.pop(TARGET),
        completeness_error=found.pop(COMPLETENESS, None),
        outputs=found,
        parameters=response.parameters,
    )
