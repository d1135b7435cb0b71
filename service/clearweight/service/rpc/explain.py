"""``clearweight.v1.ExplainService``: explanations with types, and the state of the explanations."""

# ruff: noqa: N802  # methods have the names the protocol gives them

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.core.datatypes import DATATYPES, datatype, from_bytes, to_bytes
from clearweight.service.core.errors import ServiceError, internal
from clearweight.service.core.parameters import PREPROCESS, TARGET
from clearweight.service.core.presentation import Presentation
from clearweight.service.core.types import InferRequest, InferResponse, Limits, ModelHealth, Scalar, Tensor
from clearweight.service.core.validation import check_shape
from clearweight.service.drift import DriftReport, FidelityReport, IntegrityReport
from clearweight.service.rpc.errors import code_of
from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import explain_pb2_grpc as pb_grpc

_AT_A_TIME = 4  # requests of one stream that may wait or run; the rest waits with the caller


class ExplainServicer(pb_grpc.ExplainServiceServicer):
    """Translates; everything else is the dataplane's."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane, self._presentation = plane, Presentation(plane)

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        """Predict and attribute in one run."""
        del context
        return await self._explain(request)

    async def ExplainStream(
        self, request_iterator: AsyncIterator[pb.ExplainRequest], context: Any
    ) -> AsyncIterator[pb.ExplainResponse]:
        """Explain many requests, a few at a time; answers in their order, failures among them.

        When the caller cancels, what has not begun is not computed.
        """
        del context
        running: asyncio.Queue[asyncio.Task[pb.ExplainResponse] | None] = asyncio.Queue(_AT_A_TIME)

        async def read() -> None:
            try:
                async for request in request_iterator:
                    await running.put(asyncio.create_task(self._item(request)))
            finally:
                await running.put(None)

        reader = asyncio.create_task(read())
        task: asyncio.Task[pb.ExplainResponse] | None = None
        try:
            while (task := await running.get()) is not None:
                yield await task
            await reader  # what ended the requests, if it was no end: a message that could not be read
        finally:
            reader.cancel()
            for left in (task, *(running.get_nowait() for _ in range(running.qsize()))):
                if left is not None:
                    left.cancel()

    async def _item(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        try:
            return await self._explain(request)
        except Exception as failure:  # noqa: BLE001  # one item's failure is that item's answer
            error = failure if isinstance(failure, ServiceError) else internal(failure)
            return pb.ExplainResponse(
                model=request.model,
                version=request.version,
                id=request.id,
                error=pb.Error(code=code_of(error).value[0], message=str(error)),
            )

    async def _explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        with self._plane.call("explain", "grpc") as call:
            call.code = "CANCELLED"  # stands if the caller goes away before anything else is known
            try:
                self._plane.label(call, request.model, request.version or None)
                asked = decode_explain(request, self._plane.engine.options.limits)
                reply = encode_explain(await self._presentation.answer(call, asked))
            except Exception as error:
                call.code = code_of(error).name
                raise
            call.code = "OK"
            return reply

    async def Drift(self, request: pb.DriftRequest, context: Any) -> pb.DriftResponse:
        """Fidelity, integrity and drift of one model."""
        del context
        return encode_health(self._plane.engine.health(request.model, request.version or None))


def decode_explain(request: pb.ExplainRequest, limits: Limits) -> InferRequest:
    """Read an ExplainRequest."""
    parameters: dict[str, Scalar] = {}
    if request.method:
        parameters["method"] = request.method
    if request.preprocess:
        parameters[PREPROCESS] = True
    for key in ("steps", "baseline", "seed", "classification", "picture", "resize", "pixels"):
        if request.HasField(key):
            parameters[key] = getattr(request, key)
    tensors = []
    for entry in request.inputs:
        kind = datatype(entry.datatype, f"Input {entry.name!r}")
        shape = check_shape(entry.name, list(entry.shape), limits)
        tensors.append(Tensor(entry.name, kind.name, from_bytes(entry.name, kind, shape, entry.raw)))
    if len(request.target) == 1:
        parameters[TARGET] = request.target[0]
    elif request.target:
        tensors.append(Tensor(TARGET, "INT64", np.array(request.target, dtype=np.int64)))
    return InferRequest(
        request.model,
        request.version or None,
        tuple(tensors),
        tuple(request.outputs) or None,
        parameters,
        request.id or None,
    )


def encode_explain(response: InferResponse) -> pb.ExplainResponse:
    """Write an ExplainResponse; every reply parameter has a field of its own name."""
    message = pb.ExplainResponse(model=response.model, version=response.version, id=response.id or "")
    for tensor in response.outputs:
        raw = to_bytes(DATATYPES[tensor.datatype], tensor.values)
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape, raw=raw)
    for key, value in response.parameters.items():
        setattr(message, key, value)
    return message


def encode_health(health: ModelHealth) -> pb.DriftResponse:
    """Write the three answers."""
    return pb.DriftResponse(
        model=health.model,
        version=health.version,
        ready=health.ready,
        reason=health.reason,
        fidelity=_fidelity(health.fidelity) if health.fidelity else None,
        integrity=_integrity(health.integrity) if health.integrity else None,
        drift=_drift(health.drift),
    )


def _fidelity(report: FidelityReport) -> pb.DriftResponse.Fidelity:
    message = pb.DriftResponse.Fidelity(
        state=report.state,
        reason=report.reason,
        canary_cosine=report.canary_cosine,
        canary_bound=report.canary_bound,
    )
    record = report.record
    if record is not None:
        if "cosine" in record.similarity:
            message.cosine = record.similarity["cosine"].mean
        message.min_attribution_similarity = record.min_attribution_similarity
        message.max_accuracy_drop = record.max_accuracy_drop
        if record.accuracy_drop is not None:
            message.accuracy_drop = record.accuracy_drop
        if record.retrain_floor is not None:
            message.retrain_floor = record.retrain_floor
    return message


def _integrity(report: IntegrityReport) -> pb.DriftResponse.Integrity:
    return pb.DriftResponse.Integrity(
        state=report.state,
        reason=report.reason,
        canaries=report.canaries,
        logits_error=report.logits_error,
        logits_atol=report.limit.logits_atol,
        map_cosine=report.map_cosine,
        map_cosine_min=report.limit.map_cosine_min,
        map_q999=report.map_q999,
        map_q999_max=report.limit.map_q999_max,
    )


def _drift(report: DriftReport) -> pb.DriftResponse.Drift:
    return pb.DriftResponse.Drift(
        state=report.state,
        reason=report.reason,
        source=report.source,
        share=report.share,
        compared=report.compared,
        undefined=report.undefined,
        disagreements=report.disagreements,
        sampled_out=report.sampled_out,
        dropped=report.dropped,
        comparisons_per_second=report.comparisons_per_second,
        false_alarm_interval_days=report.false_alarm_interval_days,
        last_sample_timestamp_seconds=report.last_sample_timestamp_seconds,
        series=[
            pb.DriftResponse.Series(
                metric=chart.metric,
                detector=chart.detector,
                statistic=chart.statistic,
                warning_limit=chart.warning_limit,
                limit=chart.limit,
                state=chart.state,
                alarms=chart.alarms,
            )
            for chart in report.series
        ],
    )
