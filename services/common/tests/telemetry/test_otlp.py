"""What is sent of spans is what OpenTelemetry's own encoder would send of them."""

from collections.abc import Mapping
from typing import Any

import pytest
from errand_common.telemetry import genai
from errand_common.telemetry.otlp import SpanEncoder, encoded_request
from errand_common.telemetry.spans import MOST_ATTRIBUTES, LocalSpan
from errand_common.telemetry.tracing import make_provider
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

_tracer = make_provider("test").get_tracer("module", "1.0")
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_values = _texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


def _ended(name: str, attributes: Mapping[str, Any], **told: Any) -> LocalSpan:
    span = _tracer.start_span(name, attributes=attributes, **told)
    assert isinstance(span, LocalSpan)
    span.end()
    return span


def _by_sdk(span: LocalSpan) -> ExportTraceServiceRequest:
    return encode_spans(
        [
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.tracer.resource,
                attributes=span.attributes,
                events=span.events,
                links=span.links,
                kind=span.kind,
                status=span.status,
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.tracer.scope,
            )
        ]
    )


def _by_us(*spans: LocalSpan) -> ExportTraceServiceRequest:
    encoder = SpanEncoder("on")
    return ExportTraceServiceRequest.FromString(encoded_request([encoder.whole(span) for span in spans]))


@given(
    name=_texts,
    attributes=st.dictionaries(_texts.filter(bool), _values, max_size=8),
    kind=st.sampled_from(trace.SpanKind),
    code=st.sampled_from(trace.StatusCode),
    reason=_texts,
    remote=st.sampled_from([None, False, True]),
)
def test_texts_and_numbers(
    name: str,
    attributes: dict[str, Any],
    kind: trace.SpanKind,
    code: trace.StatusCode,
    reason: str,
    remote: bool | None,
) -> None:
    above = trace.INVALID_SPAN
    if remote is not None:
        above = trace.NonRecordingSpan(trace.SpanContext(2**127 + 1, 2**63 + 1, remote))
    span = _tracer.start_span(name, trace.set_span_in_context(above), kind, attributes)
    assert isinstance(span, LocalSpan)
    span.set_status(trace.Status(code, reason if code is trace.StatusCode.ERROR and reason else None))
    span.end()
    assert _by_us(span) == _by_sdk(span)


@pytest.mark.parametrize("value", [["a", "b"], (1, 2), b"\x00\xff", [True], []])
def test_other_values_too(value: Any) -> None:
    span = _ended("step", {genai.FINISH_REASONS: value, "text": "x"})
    assert _by_us(span) == _by_sdk(span)


def test_errors_and_links() -> None:
    link = trace.Link(trace.SpanContext(1, 2, is_remote=True))
    with (
        pytest.raises(ValueError, match="no"),
        _tracer.start_as_current_span("step", links=[link], attributes={"a": 1}) as span,
    ):
        raise ValueError("no")
    assert isinstance(span, LocalSpan)
    assert [event.name for event in span.events] == ["exception"]
    assert span.status.description == "ValueError: no"
    assert _by_us(span) == _by_sdk(span)


def test_spans_of_several_modules_stay_with_their_module() -> None:
    first, second = (make_provider("test").get_tracer(name) for name in ("a", "b"))
    spans = [tracer.start_span(name) for tracer, name in ((first, "1"), (second, "2"), (first, "3"))]
    for span in spans:
        span.end()
    sent = _by_us(*(span for span in spans if isinstance(span, LocalSpan)))
    found = {
        scope.scope.name: [span.name for span in scope.spans]
        for group in sent.resource_spans
        for scope in group.scope_spans
    }
    assert found == {"a": ["1", "3"], "b": ["2"]}
    for group in sent.resource_spans:
        assert "errand-test" in {item.value.string_value for item in group.resource.attributes}


def test_half_a_character_does_not_lose_the_span() -> None:
    """JSON lets half a surrogate pair through; no text can hold it."""
    sent = _by_us(_ended("step", {"text": "a\ud83d"}))
    assert sent.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value == "a?"


def test_what_a_span_holds_is_bounded() -> None:
    span = _ended("step", {f"key {number}": number for number in range(10 * MOST_ATTRIBUTES)})
    span.set_attribute("late", "said after the end")
    assert len(span.attributes) == MOST_ATTRIBUTES
    assert "late" not in span.attributes
