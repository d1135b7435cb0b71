"""OpenTelemetry spans of requests, made when a request has ended; nothing of it is imported unless switched on.

A request's own span has the ids that its ``traceparent`` told the caller. Beneath it stand its stages: ``queue`` (for a
thread), ``run`` (in ONNX Runtime) and ``encode`` (the answer). Attributes are bounded and ours, like the log's fields.
"""

import time
from importlib.metadata import version as installed_version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from clearweight.service.core.context import RequestContext

_SECONDS = 5.0
"""Longest a collector may keep an export waiting."""


class Tracing:
    """Makes and exports spans, in one event loop; the standard ``OTEL_*`` variables set headers, sampling, resource.

    Parameters
    ----------
    endpoint : str
        Of a collector, OTLP over HTTP, as ``http://collector:4318/v1/traces``.
    exporter : SpanExporter, optional
        Instead of the endpoint; exports each span at once.
    """

    def __init__(self, endpoint: str, exporter: SpanExporter | None = None) -> None:
        self._ids = _GivenIds()
        resource = Resource.create(
            {"service.name": "clearweight", "service.version": installed_version("clearweight")}
        )
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        if exporter is None:
            self._provider.add_span_processor(BatchSpanProcessor(_collector(endpoint)))
        else:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("clearweight.service")

    def finished(self, context: RequestContext, protocol: str, status: int | str, failed: bool) -> None:
        """Make the spans of a request that has ended."""
        clock = time.time() - time.monotonic()

        def moment(seconds: float) -> int:
            return int((seconds + clock) * 1e9)

        parent = None
        if context.parent_id:
            flags = TraceFlags(int(context.flags, 16))
            known = SpanContext(int(context.trace_id, 16), int(context.parent_id, 16), True, flags)
            parent = set_span_in_context(NonRecordingSpan(known))
        self._ids.give(context)
        kind = "http.response.status_code" if protocol == "rest" else "rpc.response.status_code"
        span = self._tracer.start_span(
            context.route,
            parent,
            SpanKind.SERVER,
            {
                "clearweight.protocol": protocol,
                "clearweight.request_id": context.request_id,
                "clearweight.model": context.model,
                "clearweight.model_version": context.version,
                kind: status,
            },
            start_time=moment(context.began),
        )
        beneath = set_span_in_context(span)
        for name, began, ended in context.stages:
            stage = self._tracer.start_span(name, beneath, start_time=moment(began))
            stage.end(moment(ended))
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(moment(time.monotonic()))

    def close(self) -> None:
        """Export what is left, as far as the collector takes it in time."""
        self._provider.shutdown()


class _GivenIds(IdGenerator):
    """Draws ids, but for the next span, whose ids the caller was told already."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._span_id, self._trace_id = 0, 0

    def give(self, context: RequestContext) -> None:
        self._span_id, self._trace_id = int(context.span_id, 16), int(context.trace_id, 16)

    def generate_span_id(self) -> int:
        given, self._span_id = self._span_id, 0
        return given or self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        given, self._trace_id = self._trace_id, 0
        return given or self._random.generate_trace_id()


def _collector(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter(endpoint, timeout=_SECONDS)
