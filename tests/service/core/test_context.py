import re

import pytest

from clearweight.service.core.context import RequestContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_goes_on_under_a_span_of_its_own():
    context = RequestContext.arrive(None, f"00-{TRACE}-{SPAN}-01")

    assert (context.trace_id, context.parent_id, context.flags) == (TRACE, SPAN, "01")
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", context.traceparent)
    assert context.span_id != SPAN


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert RequestContext.arrive(None, f"01-{TRACE}-{SPAN}-01-more").trace_id == TRACE


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_malformed_parent_starts_a_new_trace(malformed):
    context = RequestContext.arrive(None, malformed)

    assert context.trace_id != TRACE
    assert context.parent_id == ""
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", context.traceparent)


def test_two_requests_have_two_identities():
    one, two = (RequestContext.arrive(None, None) for _ in range(2))

    assert len({one.trace_id, two.trace_id, one.span_id, two.span_id}) == 4


def test_the_callers_id_is_kept_and_without_one_the_trace_names_the_request():
    assert RequestContext.arrive("order-17/retry.2", None).request_id == "order-17/retry.2"
    context = RequestContext.arrive(None, f"00-{TRACE}-{SPAN}-01")
    assert context.request_id == TRACE


@pytest.mark.parametrize("made_up", ["", "a" * 129, "two words", "new\nline", "<script>", "naïve", '{"a":1}'])
def test_an_id_that_could_forge_a_log_line_is_replaced(made_up):
    assert RequestContext.arrive(made_up, None).request_id != made_up


def test_a_trace_of_our_own_says_whether_it_is_recorded():
    assert RequestContext.arrive(None, None, sampled=True).traceparent.endswith("-01")
    assert RequestContext.arrive(None, f"00-{TRACE}-{SPAN}-00", sampled=True).traceparent.endswith("-00")


def test_a_stream_without_end_holds_a_bounded_number_of_stages():
    context = RequestContext.arrive(None, None)
    for index in range(1000):
        context.note("run", index, index + 1)

    assert len(context.stages) == 64
    assert context.stages[0] == ("run", 0, 1)
