"""The story of a run: of all spans those that MLflow shows, joined to a tree of their own.

Between two GenAI spans stand spans of transport (a client's call, a server's handler). MLflow does not
get those: a span sent to MLflow has its nearest GenAI ancestor as its parent. Across processes the id of
that ancestor travels as W3C baggage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import baggage, trace
from opentelemetry.context import Context

from errand_common.telemetry.spans import STORY_PARENT, LocalSpan, next_span_id

_STORY_PREFIXES: Final = ("gen_ai.", "mlflow.")


def is_genai(span: LocalSpan) -> bool:
    """Whether a span tells of a run, a model step, a tool or a retrieval."""
    # A loop, not `any`: this is asked for every span, several times.
    for key in span.attributes:  # noqa: SIM110
        if key.startswith(_STORY_PREFIXES):
            return True
    return False


def nearest_story_span(context: Context | None = None) -> str:
    """Id (16 hex digits) of the nearest GenAI span at or above the current one; "" without one."""
    current = trace.get_current_span(context)
    if isinstance(current, LocalSpan):
        return f"{current.context.span_id:016x}" if is_genai(current) else _story_above(current)
    return str(baggage.get_baggage(STORY_PARENT, context) or "")


def story_parent(span: LocalSpan) -> trace.SpanContext | None:
    """The nearest GenAI span above this one, which stands above it in MLflow; None for a root."""
    try:
        span_id = int(_story_above(span), 16)
    except ValueError:
        return None
    return trace.SpanContext(span.context.trace_id, span_id, is_remote=True)


def _story_above(span: LocalSpan) -> str:
    # Asked when it is needed: a span may become a GenAI span after its children began.
    while span.above is not None:
        span = span.above
        if is_genai(span):
            return f"{span.context.span_id:016x}"
    return span.story_parent


@contextmanager
def repeatable(key: str) -> Iterator[None]:
    """The next span of this task has an id made from `key`.

    Work that a crash interrupted begins again with the same id: spans below it that were sent before
    the crash find their parent, which only its end sends.
    """
    digest = hashlib.sha256(key.encode()).digest()
    token = next_span_id.set(int.from_bytes(digest[:8], "big") or 1)
    try:
        yield
    finally:
        next_span_id.reset(token)
