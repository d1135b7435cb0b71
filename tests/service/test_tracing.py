"""Spans on both transports: one trace with the caller, stages beneath, nothing a caller chose, nothing when off."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from clearweight.service.access import Access
from clearweight.service.core.dataplane import Dataplane, PlaneOptions
from clearweight.service.core.lane import LaneOptions
from clearweight.service.rest import create_app, guarded
from clearweight.service.rpc import Edge
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from clearweight.service.tracing import Tracing
from tests.service.conftest import Client, open_channel
from tests.service.rest.messages import INFER, body
from tests.service.rpc.test_oip import request

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "patient-4711"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter):
    made = Tracing("", exporter)
    yield made
    made.close()


@pytest.fixture
def rest(service, tracing):
    http = Client(guarded(create_app(service.plane), Access(), finished=tracing.finished))

    def call(headers):
        reply = http.post(f"{INFER}?name={SECRET}", json=body(id=SECRET), headers=headers)
        assert reply.status_code == 200
        return reply.headers

    return call


@pytest.fixture
def rpc(service, tracing):
    with open_channel(service, Edge(Access(), finished=tracing.finished)) as channel:

        def call(headers):
            metadata = tuple((key.lower(), value) for key, value in headers.items())
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            _, answered = stub.ModelInfer.with_call(request(id=SECRET), metadata=metadata)
            return dict(answered.trailing_metadata())

        yield call


@pytest.fixture(params=["rest", "rpc"])
def call(request):
    return request.getfixturevalue(request.param)


def split(exporter):
    spans = exporter.get_finished_spans()
    root = next(span for span in spans if span.kind is SpanKind.SERVER)
    return root, {span.name: span for span in spans if span is not root}


def test_a_request_is_a_span_of_the_callers_trace_with_its_stages_beneath(call, exporter):
    headers = call({"traceparent": f"00-{TRACE}-{SPAN}-01"})
    root, stages = split(exporter)

    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == SPAN
    assert headers["traceparent"] == f"00-{TRACE}-{root.context.span_id:016x}-01"
    assert set(stages) == {"run", "encode"} | ({"queue"} if "queue" in stages else set())
    for stage in stages.values():
        assert stage.parent.span_id == root.context.span_id
        assert stage.context.trace_id == root.context.trace_id
        assert root.start_time <= stage.start_time <= stage.end_time <= root.end_time
    assert stages["run"].end_time <= stages["encode"].start_time
    assert root.attributes["clearweight.model"] == "tiny"
    assert SECRET not in str([(span.name, dict(span.attributes)) for span in exporter.get_finished_spans()])


def test_without_a_parent_a_trace_of_our_own_is_told_and_sampled(call, exporter):
    told = call({})["traceparent"].split("-")
    root, _ = split(exporter)

    assert told[1:] == [f"{root.context.trace_id:032x}", f"{root.context.span_id:016x}", "01"]
    assert root.parent is None


def test_a_caller_that_does_not_sample_is_followed(call, exporter):
    call({"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert not exporter.get_finished_spans()


def test_a_request_that_waits_shows_its_time_in_the_queue(service, tracing, exporter):
    threads_only = LaneOptions(inline_seconds=0.0)
    plane = Dataplane(service.engine, PlaneOptions(predict=threads_only))
    http = Client(guarded(create_app(plane), Access(), finished=tracing.finished))
    assert http.post(INFER, json=body()).status_code == 200
    for lane in plane.lanes.values():
        lane.close()
    _, stages = split(exporter)

    assert stages["queue"].end_time <= stages["run"].start_time < stages["run"].end_time


def test_a_failure_of_ours_is_an_error_and_a_callers_is_not(service, tracing, exporter, monkeypatch):
    http = Client(guarded(create_app(service.plane), Access(), finished=tracing.finished))
    http.get("/v2/models/nobody")
    monkeypatch.setattr(service.engine, "metadata", lambda *_: 1 / 0)
    http.get("/v2/models/tiny")
    codes = [span.status.status_code for span in exporter.get_finished_spans()]
    assert codes == [StatusCode.UNSET, StatusCode.ERROR]


def test_nothing_is_imported_while_it_is_off():
    code = (
        "import sys, clearweight.service.serve; print([m for m in sys.modules if 'opentelemetry.sdk' in m])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
