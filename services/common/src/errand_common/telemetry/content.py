"""What spans tell of people's words: all, masked, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

from errand_common.redaction import redacted, redacted_text
from errand_common.telemetry import genai
from errand_common.telemetry.story import copied

ContentPolicy = Literal["on", "redacted", "off"]
CONTENT_ATTRIBUTES: Final = frozenset(
    {genai.MLFLOW_INPUTS, genai.MLFLOW_OUTPUTS, genai.INPUT_MESSAGES, genai.OUTPUT_MESSAGES}
)
# An error's text may repeat what it was given.
_ERROR_CONTENT: Final = frozenset({"exception.message", "exception.stacktrace"})


def content_filter(policy: ContentPolicy) -> Callable[[ReadableSpan], ReadableSpan]:
    """Gives spans as the policy lets them out."""
    # A span that goes to two places ends at both one after the other: its words are masked once.
    last: tuple[ReadableSpan | None, ReadableSpan | None] = (None, None)

    def filtered(span: ReadableSpan) -> ReadableSpan:
        nonlocal last
        known, result = last
        if known is span and result is not None:
            return result
        if policy == "on" or not _holds_words(span):
            return span
        result = copied(
            span,
            attributes=_filtered(span.attributes or {}, CONTENT_ATTRIBUTES, policy),
            events=[_filtered_event(event, policy) for event in span.events],
            status=_filtered_status(span.status, policy),
        )
        last = (span, result)
        return result

    return filtered


def _holds_words(span: ReadableSpan) -> bool:
    return bool(span.events or span.status.description) or not CONTENT_ATTRIBUTES.isdisjoint(span.attributes or {})


def _filtered_status(status: Status, policy: ContentPolicy) -> Status:
    if not status.description:
        return status
    # OpenTelemetry writes an error as its type, a colon and its text.
    reason = status.description.partition(":")[0] if policy == "off" else redacted_text(status.description)
    return Status(status.status_code, reason)


def _filtered_event(event: Event, policy: ContentPolicy) -> Event:
    return Event(event.name, _filtered(event.attributes or {}, _ERROR_CONTENT, policy), event.timestamp)


def _filtered(attributes: Mapping[str, Any], content: frozenset[str], policy: ContentPolicy) -> dict[str, Any]:
    """Secrets and e-mail addresses are masked, or the content is left out."""
    kept = {key: value for key, value in attributes.items() if policy == "redacted" or key not in content}
    return {key: redacted("content", value) if key in content else value for key, value in kept.items()}
