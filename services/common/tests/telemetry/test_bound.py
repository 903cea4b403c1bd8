"""A process tells of so many traces a second; beyond that of errors and of what was slow."""

import time
from typing import Any

import pytest
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common.errors import NotFound, Unavailable
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.telemetry import bound, carried_trace, entered_trace, genai, tracer
from errand_common.telemetry.bound import TraceBound, kept_span
from errand_common.telemetry.metrics import exemplar
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_common.testing.spans import RecordedSpans
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags
from prometheus_client import REGISTRY

_tracer = tracer(__name__)
STEP = {genai.OPERATION: genai.EXECUTE_TOOL}


class _Clock:
    time_ns = staticmethod(time.time_ns)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    ticking = _Clock()
    monkeypatch.setattr(bound, "time", ticking)
    return ticking


def _begun(sampler: TraceBound, count: int, name: str = "POST request", links: Any = ()) -> int:
    results = [sampler.should_sample(Context(), 1, name, links=links) for _ in range(count)]
    return sum(result.decision.is_sampled() for result in results)


def _counted(told: str) -> float:
    return REGISTRY.get_sample_value("telemetry_traces_total", {"told": told}) or 0.0


def _told_late(reason: str) -> float:
    return REGISTRY.get_sample_value("telemetry_traces_told_late_total", {"reason": reason}) or 0.0


def test_three_seconds_worth_may_begin_at_once_and_then_so_many_a_second(clock: _Clock) -> None:
    sampler = TraceBound(per_second=5, slow_seconds=10)
    whole, counted = _counted("whole"), _counted("counted")
    assert _begun(sampler, 100) == 15
    clock.now += 1
    assert _begun(sampler, 100) == 5
    clock.now += 3600
    assert _begun(sampler, 100) == 15, "a quiet hour saves nothing up"
    assert (_counted("whole") - whole, _counted("counted") - counted) == (35, 265)


def test_a_flood_of_one_kind_hides_no_other(clock: _Clock) -> None:
    sampler = TraceBound(per_second=1, slow_seconds=10)
    _begun(sampler, 1000, "GET request")
    assert _begun(sampler, 1, "POST request") == 1


def test_kinds_beyond_the_first_share_one_bound(clock: _Clock) -> None:
    sampler = TraceBound(per_second=1, slow_seconds=10)
    assert sum(_begun(sampler, 1, f"kind {number}") for number in range(1000)) == 16 + 3


def test_a_request_whose_caller_is_traced_competes_with_its_like_alone(clock: _Clock) -> None:
    sampler = TraceBound(per_second=1, slow_seconds=10)
    _begun(sampler, 100)
    callers = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    assert _begun(sampler, 100, links=[Link(callers)]) == 3
    not_sampled = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0))
    assert _begun(sampler, 100, links=[Link(not_sampled)]) == 0


def test_less_than_one_a_second_is_one_now_and_then(clock: _Clock) -> None:
    sampler = TraceBound(per_second=0.1, slow_seconds=10)
    assert _begun(sampler, 100) == 1
    clock.now += 10
    assert _begun(sampler, 100) == 1


def test_none_a_second_is_none(clock: _Clock) -> None:
    assert _begun(TraceBound(per_second=0, slow_seconds=10), 100) == 0


class _Rag(rag_pb2_grpc.RagServiceServicer):
    """Fails as it is told to."""

    async def Search(self, request: rag_pb2.SearchRequest, context: Any) -> rag_pb2.SearchResponse:  # noqa: N802 - the contract's name
        with _tracer.start_as_current_span("far", attributes=STEP):
            if request.query == "missing":
                raise NotFound("collection", "c-1")
            if request.query == "away":
                raise Unavailable("rag")
            return rag_pb2.SearchResponse()


async def _search(keys: TestKeys, query: str) -> None:
    registration = Registration(rag_pb2_grpc.add_RagServiceServicer_to_server, _Rag(), "errand.rag.v1.RagService")
    async with rpc_pair([registration], keys) as channel:
        with acting_as(principal(), signer=keys.signer), translate_errors("rag"):
            await rag_pb2_grpc.RagServiceStub(channel).Search(rag_pb2.SearchRequest(query=query))


async def test_beyond_the_bound_no_process_makes_a_span(spans: RecordedSpans, keys: TestKeys) -> None:
    with spans.counting(), kept_span(_tracer, "POST request", Context()):
        carried = carried_trace()
        assert exemplar() is None, "a figure would lead to nothing"
    with entered_trace(carried), _tracer.start_as_current_span("run", attributes=STEP):
        await _search(keys, "x")
    assert list(carried) == ["traceparent"]
    assert not int(carried["traceparent"].rpartition("-")[2], 16) & TraceFlags.SAMPLED
    assert spans.ended == []


def test_an_error_is_told_by_the_door_under_the_id_that_logs_have(spans: RecordedSpans) -> None:
    known = _told_late("error")
    below: list[int] = []

    def fail() -> None:
        with kept_span(_tracer, "POST request", Context(), attributes={"a": 1}) as door:
            door.set_attribute("b", 2)
            door.update_name("chat request")
            with _tracer.start_as_current_span("below"):
                below.append(trace.get_current_span().get_span_context().trace_id)
                raise ZeroDivisionError("of nothing")

    with spans.counting(), pytest.raises(ZeroDivisionError):
        fail()
    [told] = spans.ended
    assert (told.name, [told.context.trace_id], told.parent) == ("chat request", below, None)
    assert dict(told.attributes or {}) == {"a": 1, "b": 2}
    assert (told.status.status_code, told.status.description) == (StatusCode.ERROR, "ZeroDivisionError: of nothing")
    assert [event.name for event in told.events] == ["exception"]
    assert told.context.trace_flags.sampled
    assert _told_late("error") == known + 1


def test_what_is_slow_is_told_with_its_whole_time(spans: RecordedSpans) -> None:
    known = _told_late("slow")
    with spans.counting(slow_seconds=0.0), kept_span(_tracer, "POST request", Context()) as door:
        began = door.get_span_context()
    with spans.counting(slow_seconds=3600), kept_span(_tracer, "quick", Context()):
        pass
    [told] = spans.ended
    assert told.context == SpanContext(
        began.trace_id, began.span_id, is_remote=False, trace_flags=told.context.trace_flags
    )
    assert told.start_time is not None
    assert told.end_time is not None
    assert told.start_time <= told.end_time
    assert told.status.status_code is StatusCode.UNSET
    assert _told_late("slow") == known + 1


def test_a_mistake_of_the_caller_is_not_worth_telling(spans: RecordedSpans) -> None:
    with spans.counting(), pytest.raises(NotFound), kept_span(_tracer, "message", Context()):
        raise NotFound("run", "run_1")
    assert spans.ended == []


def test_a_run_that_fails_begins_a_trace_of_its_own_linked_to_its_requests(spans: RecordedSpans) -> None:
    """Below a request of which nothing is told it would be an orphan, and a second root beside one that is."""
    with spans.counting(), kept_span(_tracer, "POST request", Context()) as door:
        carried = carried_trace()
    with entered_trace(carried), kept_span(_tracer, "run", attributes=STEP) as run:
        run.set_status(StatusCode.ERROR, "INTERNAL")
    [told] = spans.ended
    request = door.get_span_context()
    assert told.parent is None
    assert told.context.trace_id != request.trace_id
    assert [(link.context.trace_id, link.context.span_id) for link in told.links] == [
        (request.trace_id, request.span_id)
    ]
    assert spans.parent_in_story("run") is None


@pytest.mark.parametrize(("query", "told"), [("away", ["UNAVAILABLE"]), ("missing", [])])
async def test_a_call_that_begins_a_trace_is_told_of_when_the_service_failed(
    spans: RecordedSpans, keys: TestKeys, query: str, told: list[str]
) -> None:
    with spans.counting(), pytest.raises((Unavailable, NotFound)):
        await _search(keys, query)
    assert [span.status.description for span in spans.ended] == told
