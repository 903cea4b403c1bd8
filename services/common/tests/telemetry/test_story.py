"""The tree that MLflow gets: GenAI spans alone, joined over spans of transport, processes and crashes."""

from typing import Any

import pytest
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common import principal as principals
from errand_common.errors import NotFound
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.telemetry import carried_trace, entered_trace, genai, tracer
from errand_common.telemetry.story import repeatable
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_common.testing.spans import RecordedSpans
from opentelemetry import trace
from opentelemetry.context import Context

_tracer = tracer(__name__)
RUN = {genai.OPERATION: genai.INVOKE_AGENT}
STEP = {genai.OPERATION: genai.EXECUTE_TOOL}


class _Rag(rag_pb2_grpc.RagServiceServicer):
    """A search that is a step of the story."""

    async def Search(self, request: rag_pb2.SearchRequest, context: Any) -> rag_pb2.SearchResponse:  # noqa: N802 - the contract's name
        with _tracer.start_as_current_span("far", attributes=STEP):
            if request.query == "missing":
                raise NotFound("collection", "c-1")
            return rag_pb2.SearchResponse()


def _registration() -> Registration:
    return Registration(rag_pb2_grpc.add_RagServiceServicer_to_server, _Rag(), "errand.rag.v1.RagService")


async def test_a_call_joins_the_spans_on_both_sides(spans: RecordedSpans, keys: TestKeys) -> None:
    async with rpc_pair([_registration()], keys) as channel:
        with (
            acting_as(principal(), signer=keys.signer),
            _tracer.start_as_current_span("POST request", context=Context()),
            _tracer.start_as_current_span("run", attributes=RUN),
            _tracer.start_as_current_span("not of the story"),
        ):
            await rag_pb2_grpc.RagServiceStub(channel).Search(rag_pb2.SearchRequest(query="x"))
    assert set(spans.story()) == {"run", "far"}
    assert spans.parent_in_story("run") is None
    assert spans.parent_in_story("far") == "run"
    everything = spans.ended
    assert len({span.context.trace_id for span in everything}) == 1
    kinds = {span.kind for span in everything if span.name == "errand.rag.v1.RagService/Search"}
    assert kinds == {trace.SpanKind.CLIENT, trace.SpanKind.SERVER}
    ids = {span.context.span_id for span in everything}
    assert all(span.parent is None or span.parent.span_id in ids for span in everything)


async def test_a_refused_call_shows_its_status_on_both_sides(spans: RecordedSpans, keys: TestKeys) -> None:
    async with rpc_pair([_registration()], keys) as channel:
        with acting_as(principal(), signer=keys.signer), pytest.raises(NotFound), translate_errors("rag"):
            await rag_pb2_grpc.RagServiceStub(channel).Search(rag_pb2.SearchRequest(query="missing"))
    calls = [span for span in spans.ended if span.name.endswith("/Search")]
    assert [span.attributes["rpc.grpc.status_code"] for span in calls] == [5, 5]
    assert all(span.status.status_code is trace.StatusCode.ERROR for span in calls)


def test_work_that_begins_later_belongs_to_the_trace_it_was_asked_in(spans: RecordedSpans) -> None:
    with _tracer.start_as_current_span("chat request", attributes={genai.MLFLOW_INPUTS: "{}"}):
        carrier = carried_trace()
    with entered_trace(carrier), _tracer.start_as_current_span("run", attributes=RUN):
        pass
    assert spans.parent_in_story("run") == "chat request"


def test_a_span_may_join_the_story_after_its_children_began(spans: RecordedSpans) -> None:
    """A web framework's own span stands between the request and what its handler finds out."""
    with _tracer.start_as_current_span("request") as request, _tracer.start_as_current_span("framework"):
        request.set_attribute(genai.MLFLOW_INPUTS, "{}")
        carrier = carried_trace()
    with entered_trace(carrier), _tracer.start_as_current_span("run", attributes=RUN):
        pass
    assert spans.parent_in_story("run") == "request"


def test_a_run_that_is_resumed_takes_back_the_steps_sent_before(spans: RecordedSpans) -> None:
    """The process that began the run died: its run span never ended, its first step's did."""
    with _tracer.start_as_current_span("chat request", attributes={genai.MLFLOW_INPUTS: "{}"}):
        carrier = carried_trace()
    with entered_trace(carrier), repeatable("run_1"):
        lost = _tracer.start_span("run", attributes=RUN)
        with trace.use_span(lost), _tracer.start_as_current_span("first", attributes=STEP):
            pass
    with (
        entered_trace(carrier),
        repeatable("run_1"),
        _tracer.start_as_current_span("run", attributes=RUN),
        _tracer.start_as_current_span("second", attributes=STEP),
    ):
        pass
    assert [spans.parent_in_story(name) for name in ("first", "second", "run")] == ["run", "run", "chat request"]


def test_the_root_of_a_story_tells_whose_it_is(spans: RecordedSpans) -> None:
    """MLflow makes a tag of it, by which an erasure finds the trace."""
    with (
        principals.acting_as(principal(tenant_id="acme")),
        _tracer.start_as_current_span("transport"),
        _tracer.start_as_current_span("run", attributes=RUN),
        _tracer.start_as_current_span("step", attributes=STEP),
    ):
        pass
    tags = {
        name: (span.attributes or {}).get("mlflow.traceTag.errand.tenant_id") for name, span in spans.story().items()
    }
    assert tags == {"run": "acme", "step": None}
    assert {(span.attributes or {})["errand.tenant_id"] for span in spans.ended} == {"acme"}


def test_only_the_next_span_has_the_repeatable_id(spans: RecordedSpans) -> None:
    with repeatable("a"):
        _tracer.start_span("one").end()
        _tracer.start_span("two").end()
    with repeatable("a"):
        _tracer.start_span("again").end()
    one, two, again = (span.context.span_id for span in spans.ended)
    assert one == again
    assert one != two
