"""What spans tell of people's words: all, masked, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from opentelemetry.sdk.trace import ReadableSpan

from errand_common.redaction import redacted
from errand_common.telemetry import genai
from errand_common.telemetry.story import copied

ContentPolicy = Literal["on", "redacted", "off"]
CONTENT_ATTRIBUTES: Final = frozenset(
    {genai.MLFLOW_INPUTS, genai.MLFLOW_OUTPUTS, genai.INPUT_MESSAGES, genai.OUTPUT_MESSAGES}
)


def content_filter(policy: ContentPolicy) -> Callable[[ReadableSpan], ReadableSpan]:
    """Gives spans as the policy lets them out."""
    # A span that goes to two places ends at both one after the other: its words are masked once.
    last: tuple[ReadableSpan | None, ReadableSpan | None] = (None, None)

    def filtered(span: ReadableSpan) -> ReadableSpan:
        nonlocal last
        known, result = last
        if known is span and result is not None:
            return result
        attributes = span.attributes or {}
        if policy == "on" or CONTENT_ATTRIBUTES.isdisjoint(attributes):
            return span
        result = copied(span, attributes=_filtered(attributes, policy))
        last = (span, result)
        return result

    return filtered


def _filtered(attributes: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """Secrets and e-mail addresses are masked, or the content is left out."""
    kept = {key: value for key, value in attributes.items() if policy == "redacted" or key not in CONTENT_ATTRIBUTES}
    return {key: redacted("content", value) if key in CONTENT_ATTRIBUTES else value for key, value in kept.items()}
