"""What people send and want to see, around the engine that takes and gives numbers.

Before the engine: pictures and texts become raw tensors. After it: classes with labels and probabilities, maps as
pictures. Decoding and drawing take longer than many a model, so they happen in a thread of their own, with a bounded
queue before it; a request that asks for nothing of this passes through.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from clearweight.artifact import Manifest
from clearweight.artifact.explain_inputs import BASELINE
from clearweight.service.core.classification import CLASSIFICATION, check_count, likeliest, triton_strings
from clearweight.service.core.dataplane import Call, Dataplane
from clearweight.service.core.encoded import decode_rows
from clearweight.service.core.errors import InvalidRequestError, QueueFullError, UnsupportedError
from clearweight.service.core.parameters import PREPROCESS
from clearweight.service.core.types import InferRequest, InferResponse, Limits, Scalar, Tensor
from clearweight.service.core.validation import check_outputs

PICTURE, PICTURE_SCALE = "picture", "picture_scale"
KINDS = ("heatmap", "overlay")
MAP = "explain"
ENCODED = "BYTES"
_CAPACITY = 16
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request wants beside tensors: how many classes, which kind of picture, outputs as Triton's strings."""

    classes: int
    picture: str | None
    strings: Mapping[str, int]

    def __bool__(self) -> bool:
        return bool(self.classes or self.picture or self.strings)


class Presentation:
    """A dataplane as a transport uses it, in one event loop."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane = plane
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="clearweight-presentation")
        self._pending = 0

    async def answer(self, call: Call, request: InferRequest) -> InferResponse:
        """Answer one request, as ``Dataplane.answer`` does, with what it wants beside numbers."""
        encoded, asked = ENCODED in [tensor.datatype for tensor in request.inputs], request.parameters
        if not (encoded or request.classification or CLASSIFICATION in asked or PICTURE in asked):
            return await self._plane.answer(call, request)
        slot = self._plane.engine.repository.slot(request.model, request.version)
        manifest = slot.serving().manifest
        wishes = read_wishes(manifest, request, call.verb)
        if encoded:
            limits, given = self._plane.engine.options.limits, request
            request = await self._convert(lambda: decode_request(manifest, given, limits))
        if not wishes:
            return await self._plane.answer(call, request)
        response = await self._plane.answer(call, replace(request, outputs=None))
        return await self._convert(lambda: present(manifest, request, response, wishes))

    async def _convert(self, work: Callable[[], R]) -> R:
        if self._pending >= _CAPACITY:
            raise QueueFullError(f"{_CAPACITY} requests wait to be decoded or drawn already.")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._pending -= 1


def read_wishes(manifest: Manifest, request: InferRequest, verb: str) -> Wishes:
    """Read what a request wants beside tensors.

    Raises
    ------
    InvalidRequestError
        A number of classes that is none, an unknown kind of picture, or a picture of a prediction.
    """
    picture = request.parameters.get(PICTURE)
    if picture is not None and picture not in KINDS:
        raise InvalidRequestError(f"Parameter {PICTURE!r} is {picture!r}, expected {' or '.join(KINDS)}.")
    if picture is not None and verb != "explain":
        raise InvalidRequestError("A picture is drawn of an explanation: ask the explain verb.")
    outputs = {spec.name: spec for spec in manifest.outputs}
    for name in request.classification:
        if name not in outputs or len(outputs[name].shape) != 2:
            raise InvalidRequestError(
                f"Output {name!r} cannot be classified: it is no [N, classes] of this model."
            )
    count = request.parameters.get(CLASSIFICATION)
    classes = 0 if count is None else check_count(count, manifest.outputs[0].name)
    return Wishes(classes, None if picture is None else str(picture), request.classification)


def decode_request(manifest: Manifest, request: InferRequest, limits: Limits) -> InferRequest:
    """Return the request with every BYTES tensor, input or baseline, decoded into the manifest's raw type.

    Raises
    ------
    InvalidRequestError, TooLargeError, UnsupportedError
        As ``decode_rows``.
    """
    if len(manifest.inputs) != 1:
        raise InvalidRequestError("Only a model with one input takes pictures and texts.")
    spec, preprocessing = manifest.inputs[0], manifest.preprocessing

    def decoded(tensor: Tensor) -> Tensor:
        if tensor.datatype != ENCODED or tensor.name not in (spec.name, BASELINE):
            return tensor
        values = decode_rows(spec, preprocessing, tensor, request.parameters, limits)
        return Tensor(tensor.name, preprocessing.raw_datatype, values)

    parameters: Mapping[str, Scalar] = {**request.parameters, PREPROCESS: True}
    return replace(request, inputs=tuple(decoded(tensor) for tensor in request.inputs), parameters=parameters)


def present(
    manifest: Manifest, request: InferRequest, response: InferResponse, wishes: Wishes
) -> InferResponse:
    """Return the response with the outputs that were wished for; they stand last unless the request names them.

    Raises
    ------
    InvalidRequestError
        The request asks for an output that there is not.
    """
    found = {tensor.name: tensor for tensor in response.outputs}
    further: list[Tensor] = []
    if wishes.classes:
        further += likeliest(found[manifest.outputs[0].name].values, manifest.labels, wishes.classes)
    if wishes.picture:
        further += _pictures(manifest, request, found, wishes.picture)
    for name, count in wishes.strings.items():
        found[name] = triton_strings(name, found[name].values, manifest.labels, count)
    taken = sorted({tensor.name for tensor in further} & found.keys())
    if taken:
        raise UnsupportedError(f"The model has an output {taken[0]!r} of its own.")
    names = list(
        check_outputs([*found, *(tensor.name for tensor in further)], request.outputs or tuple(found))
    )
    names += [tensor.name for tensor in further if tensor.name not in names]
    found |= {tensor.name: tensor for tensor in further}
    return replace(response, outputs=tuple(found[name] for name in names))


def _pictures(
    manifest: Manifest, request: InferRequest, found: Mapping[str, Tensor], kind: str
) -> tuple[Tensor, Tensor]:
    try:
        from clearweight.service.core.picture import draw  # noqa: PLC0415  # needs Pillow, which a device may lack
    except ImportError:
        raise UnsupportedError("Pictures need Pillow, which is not installed here.") from None
    given = next(tensor for tensor in request.inputs if tensor.name == manifest.inputs[0].name).values
    if not 2 <= given.ndim <= 4 or found[MAP].values.ndim != given.ndim:
        raise UnsupportedError(f"There is no picture of a map of shape {list(found[MAP].values.shape)}.")
    drawn = [draw(values, row, kind) for values, row in zip(found[MAP].values, given, strict=True)]
    files = np.empty(len(drawn), dtype=object)
    files[:] = [png for png, _ in drawn]
    scales = np.array([scale for _, scale in drawn], dtype=np.float32)
    return Tensor(PICTURE, "BYTES", files), Tensor(PICTURE_SCALE, "FP32", scales)
