"""What spans tell of people's words: all, masked, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from opentelemetry.sdk.trace import Event

from errand_common.redaction import redacted, redacted_text
from errand_common.telemetry import genai
from errand_common.telemetry.spans import LocalSpan

ContentPolicy = Literal["on", "redacted", "off"]
CONTENT_ATTRIBUTES: Final = frozenset(
    {genai.MLFLOW_INPUTS, genai.MLFLOW_OUTPUTS, genai.INPUT_MESSAGES, genai.OUTPUT_MESSAGES}
)
# An error's text may repeat what it was given.
_ERROR_CONTENT: Final = frozenset({"exception.message", "exception.stacktrace"})


class Told(NamedTuple):
    """What is sent of a span beside its name, times and place."""

    attributes: Mapping[str, Any]
    events: Sequence[Event]
    # Why it failed.
    reason: str


def content_filter(policy: ContentPolicy) -> Callable[[LocalSpan], Told]:
    """Gives of spans what the policy lets out."""

    def filtered(span: LocalSpan) -> Told:
        attributes: Mapping[str, Any] = span.attributes
        if policy == "on":
            return Told(attributes, span.events, span.status.description or "")
        events = [_filtered_event(event, policy) for event in span.events]
        reason = _filtered_reason(span.status.description or "", policy)
        if not CONTENT_ATTRIBUTES.isdisjoint(attributes):
            attributes = _filtered(attributes, CONTENT_ATTRIBUTES, policy)
        return Told(attributes, events, reason)

    return filtered


def _filtered_reason(reason: str, policy: ContentPolicy) -> str:
    # OpenTelemetry writes an error as its type, a colon and its text.
    return reason.partition(":")[0] if policy == "off" else redacted_text(reason)


def _filtered_event(event: Event, policy: ContentPolicy) -> Event:
    return Event(event.name, _filtered(event.attributes or {}, _ERROR_CONTENT, policy), event.timestamp)


def _filtered(attributes: Mapping[str, Any], content: frozenset[str], policy: ContentPolicy) -> dict[str, Any]:
    """Secrets and e-mail addresses are masked, or the content is left out."""
    if policy == "off":
        return {key: value for key, value in attributes.items() if key not in content}
    return {key: _masked(value) if key in content else value for key, value in attributes.items()}


def _masked(value: Any) -> Any:
    return redacted_text(value) if isinstance(value, str) else redacted("content", value)
