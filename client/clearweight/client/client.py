"""Call a service: one set of verbs, for code that waits and for code that awaits, over REST or gRPC."""

from collections.abc import Awaitable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from clearweight.client import transport
from clearweight.client.datatype import DTYPES
from clearweight.client.errors import InvalidRequestError
from clearweight.client.operation import (
    Drift,
    Explanation,
    Infer,
    Metadata,
    ModelMetadata,
    Models,
    Operation,
    Prediction,
    Ready,
    Scalar,
    explanation,
    prediction,
)

R = TypeVar("R")
Steps: TypeAlias = Generator[Operation, Any, R]
"""A verb: yields what to ask, is sent what came back, returns its result."""
Picture: TypeAlias = bytes | Path
Input: TypeAlias = (
    NDArray[Any] | Mapping[str, NDArray[Any]] | Picture | Sequence[Picture] | str | Sequence[str]
)
"""An array [N, ...]; arrays by input name; or a row per PNG, JPEG, or text of numbers."""


class _Verbs:
    """The verbs, without the way they travel."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._known: dict[tuple[str, str | None], ModelMetadata] = {}

    def _metadata(self, model: str | None, version: str | None) -> Steps[ModelMetadata]:
        name = model or self._model
        if name is None:
            names = yield Models()
            if len(names) != 1:
                raise InvalidRequestError(f"Name one of the models: {', '.join(names) or 'there are none'}.")
            (name,) = names
        found: ModelMetadata = yield Metadata(name, version)
        self._known[name, version] = found
        return found

    def _drift(self, model: str | None, version: str | None) -> Steps[dict[str, Any]]:
        name = (yield from self._once(model, version)).name
        found: dict[str, Any] = yield Drift(name, version)
        return found

    def _ready(self, model: str | None, version: str | None) -> Steps[bool]:
        found: bool = yield Ready(model, version)
        return found

    def _predict(
        self, x: Input, model: str | None, version: str | None, parameters: Mapping[str, Scalar | None]
    ) -> Steps[Prediction]:
        metadata = yield from self._once(model, version)
        found = yield Infer("predict", metadata.name, version, _inputs(metadata, x), _given(parameters))
        return prediction(found)

    def _explain(
        self,
        x: Input,
        model: str | None,
        version: str | None,
        target: int | Sequence[int] | NDArray[Any] | None,
        baseline: str | NDArray[Any] | None,
        parameters: Mapping[str, Scalar | None],
    ) -> Steps[Explanation]:
        metadata = yield from self._once(model, version)
        inputs, given = _inputs(metadata, x), _given(parameters)
        if isinstance(target, int | np.integer):
            given["target"] = int(target)
        elif target is not None:
            inputs["target"] = np.asarray(target).astype(np.int64, casting="same_kind")
        if isinstance(baseline, str):
            given["baseline"] = baseline
        elif baseline is not None:
            inputs["baseline"] = _fitting(metadata, metadata.inputs[0].datatype, np.asarray(baseline))
        found = yield Infer("explain", metadata.name, version, inputs, given)
        return explanation(found)

    def _once(self, model: str | None, version: str | None) -> Steps[ModelMetadata]:
        known = self._known.get((model or self._model or "", version))
        if known is None:
            known = yield from self._metadata(model, version)
            self._known[model or self._model or "", version] = known
        return known


class Client(_Verbs):
    """Calls a service and waits; safe to share between threads.

    Parameters
    ----------
    url : str
        ``http://host:port`` or ``https://``; ``grpc://host:port`` or ``grpcs://``, which takes ``grpcio``.
    model : str, optional
        What calls go to that name no model; without it, over REST, to the only one there is.
    timeout : float
        Seconds for one call, on its way and in the service, which is told.
    token : str, optional
        Bearer token.
    verify : bool or str
        Whether a certificate is checked, or the file of the authorities that are trusted.

    Examples
    --------
    ::

        with Client("http://localhost:8080") as client:
            found = client.explain(x, method="integrated_gradients", steps=64)
            found.map, found.logits, found.parameters["drift_state"]
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        timeout: float = 30.0,
        token: str | None = None,
        verify: bool | str = True,
    ) -> None:
        super().__init__(model)
        self._transport = transport.open_transport(url, timeout, token, verify)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(
        self,
        x: Input,
        *,
        model: str | None = None,
        version: str | None = None,
        classification: int | None = None,
        resize: str | None = None,
        pixels: str | None = None,
        preprocess: bool = False,
        timeout: float | None = None,
    ) -> Prediction:
        """Predict a batch.

        Parameters
        ----------
        classification : int, optional
            Also return so many of the likeliest classes of each row, with label and probability.
        resize : {"stretch", "crop"}, optional
            Let pictures have another size than the model's.
        pixels : {"byte", "unit"}, optional
            What a pixel is to a model of floats: 0 to 255, or 0 to 1.
        preprocess : bool
            The values are raw although raw values have the model's own type: floats that the model was trained on
            scaled. A raw type of its own, as bytes are, says so by itself.
        timeout : float, optional
            Seconds for this call.

        Raises
        ------
        ClientError
            One class for each thing a caller would treat differently; see ``errors``.
        """
        asked: dict[str, Scalar | None] = {
            "resize": resize,
            "pixels": pixels,
            "preprocess": preprocess or None,
        }
        asked["classification"] = classification
        return self._run(self._predict(x, model, version, asked), timeout)

    def explain(
        self,
        x: Input,
        *,
        model: str | None = None,
        version: str | None = None,
        target: int | Sequence[int] | NDArray[Any] | None = None,
        method: str | None = None,
        steps: int | None = None,
        baseline: str | NDArray[Any] | None = None,
        seed: int | None = None,
        classification: int | None = None,
        picture: str | None = None,
        resize: str | None = None,
        pixels: str | None = None,
        preprocess: bool = False,
        timeout: float | None = None,
    ) -> Explanation:
        """Predict a batch and attribute one class per row to its inputs.

        Parameters
        ----------
        target : int, or one per row, optional
            Class to explain; default the predicted one.
        method : str, optional
            Default the model's default explainer; ``metadata().properties`` names all.
        steps : int, optional
            Path points, draws or masks, where the method leaves the choice.
        baseline : "zero", "black" or array, optional
            What the input is compared with, where the method takes one.
        seed : int, optional
            Of noise and masks.
        picture : {"heatmap", "overlay"}, optional
            Also return each map as a PNG.
        classification, resize, pixels, preprocess, timeout : as of ``predict``

        Raises
        ------
        ClientError
            As of ``predict``.
        """
        asked: dict[str, Scalar | None] = {"method": method, "steps": steps, "seed": seed}
        asked |= {"classification": classification, "picture": picture, "resize": resize, "pixels": pixels}
        asked["preprocess"] = preprocess or None
        return self._run(self._explain(x, model, version, target, baseline, asked), timeout)

    def drift(self, model: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Return fidelity, integrity and drift of a model."""
        return self._run(self._drift(model, version))

    def metadata(self, model: str | None = None, version: str | None = None) -> ModelMetadata:
        """Return what a model takes and gives."""
        return self._run(self._metadata(model, version))

    def ready(self, model: str | None = None, version: str | None = None) -> bool:
        """Return whether a model serves; without a name, whether all of them do."""
        return self._run(self._ready(model, version))

    def _run(self, steps: Steps[R], timeout: float | None = None) -> R:
        answer: Any = None
        try:
            while True:
                answer = self._transport.ask(steps.send(answer), timeout)
        except StopIteration as end:
            result: R = end.value
            return result


class AsyncClient(_Verbs):
    """``Client`` for an event loop: the same verbs and parameters, to be awaited."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        timeout: float = 30.0,
        token: str | None = None,
        verify: bool | str = True,
    ) -> None:
        super().__init__(model)
        self._transport = transport.open_async_transport(url, timeout, token, verify)

    async def close(self) -> None:
        """Hang up."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def predict(
        self,
        x: Input,
        *,
        model: str | None = None,
        version: str | None = None,
        classification: int | None = None,
        resize: str | None = None,
        pixels: str | None = None,
        preprocess: bool = False,
        timeout: float | None = None,  # it travels with the call
    ) -> Awaitable[Prediction]:
        """Predict a batch, as ``Client.predict`` does."""
        asked: dict[str, Scalar | None] = {
            "resize": resize,
            "pixels": pixels,
            "preprocess": preprocess or None,
        }
        asked["classification"] = classification
        return self._run(self._predict(x, model, version, asked), timeout)

    def explain(
        self,
        x: Input,
        *,
        model: str | None = None,
        version: str | None = None,
        target: int | Sequence[int] | NDArray[Any] | None = None,
        method: str | None = None,
        steps: int | None = None,
        baseline: str | NDArray[Any] | None = None,
        seed: int | None = None,
        classification: int | None = None,
        picture: str | None = None,
        resize: str | None = None,
        pixels: str | None = None,
        preprocess: bool = False,
        timeout: float | None = None,  # it travels with the call
    ) -> Awaitable[Explanation]:
        """Predict and attribute a batch, as ``Client.explain`` does."""
        asked: dict[str, Scalar | None] = {"method": method, "steps": steps, "seed": seed}
        asked |= {"classification": classification, "picture": picture, "resize": resize, "pixels": pixels}
        asked["preprocess"] = preprocess or None
        return self._run(self._explain(x, model, version, target, baseline, asked), timeout)

    def drift(self, model: str | None = None, version: str | None = None) -> Awaitable[dict[str, Any]]:
        """Return fidelity, integrity and drift of a model."""
        return self._run(self._drift(model, version))

    def metadata(self, model: str | None = None, version: str | None = None) -> Awaitable[ModelMetadata]:
        """Return what a model takes and gives."""
        return self._run(self._metadata(model, version))

    def ready(self, model: str | None = None, version: str | None = None) -> Awaitable[bool]:
        """Return whether a model serves; without a name, whether all of them do."""
        return self._run(self._ready(model, version))

    async def _run(self, steps: Steps[R], seconds: float | None = None) -> R:
        answer: Any = None
        try:
            while True:
                answer = await self._transport.ask(steps.send(answer), seconds)
        except StopIteration as end:
            result: R = end.value
            return result


def _given(parameters: Mapping[str, Scalar | None]) -> dict[str, Scalar]:
    return {key: value for key, value in parameters.items() if value is not None}


def _inputs(metadata: ModelMetadata, x: Input) -> dict[str, NDArray[Any]]:
    if isinstance(x, Mapping):
        return {name: np.asarray(values) for name, values in x.items()}
    spec = metadata.inputs[0]
    if isinstance(x, np.ndarray):
        return {spec.name: _fitting(metadata, spec.datatype, x)}
    rows = [x] if isinstance(x, bytes | Path | str) else list(x)
    values = np.empty(len(rows), dtype=object)
    values[:] = [_encoded(row) for row in rows]
    return {spec.name: values}


def _encoded(row: object) -> bytes:
    if isinstance(row, Path):
        return row.read_bytes()
    if isinstance(row, str):
        return row.encode()
    if isinstance(row, bytes):
        return row
    raise InvalidRequestError(f"A row is a {type(row).__name__}, expected bytes, a path, or text.")


def _fitting(metadata: ModelMetadata, datatype: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return floats in the model's own precision, for numpy's are twice as long; all else as it is."""
    raw = DTYPES.get(metadata.properties.get("raw_datatype", ""))
    wanted = DTYPES[datatype]
    if x.dtype.kind == wanted.kind == "f" and x.dtype != raw:
        return x.astype(wanted, copy=False)
    return x
