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

    def filtered(span: ReadableSpan) -> ReadableSpan:
        attributes = span.attributes or {}
        if policy == "on" or not CONTENT_ATTRIBUTES & attributes.keys():
            return span
        return copied(span, attributes=_filtered(attributes, policy))

    return filtered


def _filtered(attributes: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """Secrets and e-mail addresses are masked, or the content is left out."""
    kept = {key: value for key, value in attributes.items() if policy == "redacted" or key not in CONTENT_ATTRIBUTES}
    return {key: redacted("content", value) if key in CONTENT_ATTRIBUTES else value for key, value in kept.items()}
