"""The checked inputs of a request: checked at once, preprocessed only when the graph's own form is asked for."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.model import Model
from clearweight.service.core.parameters import PREPROCESS
from clearweight.service.core.types import Scalar, Tensor
from clearweight.service.core.validation import check_inputs

Feed: TypeAlias = dict[str, NDArray[Any]]
"""Input name to array (N, ...), all of one batch size."""


class ModelInputs:
    """Tensors that fit a model.

    They are the graph's own unless they come in the manifest's raw datatype where that is another one, or the
    parameter ``preprocess`` is true: then the manifest's preprocessing is applied first.

    Raises
    ------
    InvalidRequestError
        They contradict the model's metadata.
    """

    def __init__(self, model: Model, inputs: Sequence[Tensor], parameters: Mapping[str, Scalar]) -> None:
        specs, raw = model.manifest.inputs, model.manifest.preprocessing.raw_datatype
        alone = len(specs) == 1
        self._model = model
        self._given = check_inputs(specs, inputs, raw_datatype=raw if alone else None)
        asked = parameters.get(PREPROCESS, False)
        if not isinstance(asked, bool):
            raise InvalidRequestError(f"Parameter {PREPROCESS!r} is {asked!r}, expected a boolean.")
        self._raw = asked or (alone and inputs[0].datatype != specs[0].datatype)
        if self._raw and (not alone or inputs[0].datatype != raw):
            raise InvalidRequestError(f"Preprocessing takes one {raw} input, found {inputs[0].datatype}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first input, (N, *row)."""
        return next(iter(self._given.values())).shape

    @property
    def row_shapes(self) -> Hashable:
        """What two requests must agree in for their rows to stand in one batch."""
        return tuple(values.shape[1:] for values in self._given.values())

    def feed(self) -> Feed:
        """Return the graph's inputs, preprocessed where that was asked for."""
        if not self._raw:
            return self._given
        return {name: self._model.prepare(values) for name, values in self._given.items()}
