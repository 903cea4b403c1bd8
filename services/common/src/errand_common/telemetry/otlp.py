"""Spans as OTLP's protobuf.

The SDK's encoder takes more of the processor than making the span did. A span of the usual kind, with texts and
numbers alone, is written here, once for all the places it goes to; what else a span may hold is left to the SDK.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, StatusCode

from errand_common.telemetry.content import ContentPolicy, Told, content_filter
from errand_common.telemetry.spans import LocalSpan, LocalTracer
from errand_common.telemetry.story import is_genai, story_parent

# Tags: the field's number in the message times eight, and how its value is written (1 eight bytes, 2 length first).
_TRACE_ID: Final = b"\x0a\x10"
_SPAN_ID: Final = b"\x12\x08"
_PARENT_ID: Final = b"\x22\x08"
_NAME: Final = b"\x2a"
_KIND: Final = b"\x30"
_START: Final = b"\x39"
_END: Final = b"\x41"
_ATTRIBUTE: Final = b"\x4a"
_STATUS: Final = b"\x7a"
_FLAGS: Final = b"\x85\x01"
_KEY: Final = b"\x0a"
_VALUE: Final = b"\x12"
_TEXT: Final = b"\x0a"
_BOOL: Final = b"\x10"
_INTEGER: Final = b"\x18"
_DOUBLE: Final = b"\x21"
_MESSAGE: Final = b"\x12"
_CODE: Final = b"\x18"
_RESOURCE_SPANS: Final = b"\x0a"
_SCOPE_SPANS: Final = b"\x12"
_SPANS: Final = b"\x12"

_PARENT_KNOWN, _PARENT_REMOTE = 0x100, 0x200
_UINT64: Final = 1 << 64
_SHORT: Final = 128
_VARINTS: Final = tuple(bytes((number,)) for number in range(_SHORT))
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack


class Origin(NamedTuple):
    """Who made a span: process and module, as the messages around it without its place."""

    resource: bytes
    scope: bytes


class EncodedSpan(NamedTuple):
    """A span ready to be sent."""

    name: str
    origin: Origin
    body: bytes


def encoded_request(spans: Iterable[EncodedSpan]) -> bytes:
    """The spans as one ExportTraceServiceRequest."""
    groups = groupby(sorted(spans, key=attrgetter("origin")), key=attrgetter("origin"))
    return b"".join(_group(origin, group) for origin, group in groups)


def _group(origin: Origin, spans: Iterable[EncodedSpan]) -> bytes:
    scope = origin.scope + b"".join(_sized(_SPANS, span.body) for span in spans)
    return _sized(_RESOURCE_SPANS, origin.resource + _sized(_SCOPE_SPANS, scope))


class SpanEncoder:
    """Writes ended spans with what a policy lets out. One for a process: it remembers the modules that made spans."""

    def __init__(self, policy: ContentPolicy) -> None:
        self._told = content_filter(policy)
        self._origins: dict[LocalTracer, Origin] = {}
        # A span that goes to two places ends at both one after the other: it is written once.
        self._last: tuple[LocalSpan | None, bytes] = (None, b"")

    def whole(self, span: LocalSpan) -> EncodedSpan:
        """The span below the one that it was made in."""
        return self._below(span, span.parent)

    def story(self, span: LocalSpan) -> EncodedSpan | None:
        """The span as MLflow gets it, below its nearest GenAI ancestor; None for a span of transport."""
        return self._below(span, story_parent(span)) if is_genai(span) else None

    def _below(self, span: LocalSpan, parent: SpanContext | None) -> EncodedSpan:
        return EncodedSpan(span.name, self._origin(span.tracer), self._body(span) + _parent_field(parent))

    def _origin(self, tracer: LocalTracer) -> Origin:
        if tracer not in self._origins:
            self._origins[tracer] = _origin(tracer)
        return self._origins[tracer]

    def _body(self, span: LocalSpan) -> bytes:
        known, body = self._last
        if known is not span:
            body = _body(span, self._told(span))
            self._last = (span, body)
        return body


def _body(span: LocalSpan, told: Told) -> bytes:
    """All of the message but its parent."""
    context = span.context
    written = _attributes(told.attributes)
    if written is None or told.events or span.links:
        return _body_by_library(span, told)
    return b"".join(
        (
            _TRACE_ID,
            context.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            context.span_id.to_bytes(8, "big"),
            _text(_NAME, span.name),
            _KIND,
            # The API counts kinds from 0, the protocol from 1.
            _VARINTS[span.kind.value + 1],
            _START,
            _fixed64(span.start_time),
            _END,
            _fixed64(span.end_time or 0),
            *written,
            _status(span.status.status_code, told.reason),
        )
    )


def _parent_field(parent: SpanContext | None) -> bytes:
    """What follows a span's body: its parent, if it has one, and whether that is in another process."""
    if parent is None:
        return _FLAGS + _fixed32(_PARENT_KNOWN)
    flags = _PARENT_KNOWN | _PARENT_REMOTE if parent.is_remote else _PARENT_KNOWN
    return _PARENT_ID + parent.span_id.to_bytes(8, "big") + _FLAGS + _fixed32(flags)


def _origin(tracer: LocalTracer) -> Origin:
    empty = ReadableSpan("", trace.INVALID_SPAN_CONTEXT, resource=tracer.resource, instrumentation_scope=tracer.scope)
    resource = encode_spans([empty]).resource_spans[0]
    scope = resource.scope_spans[0]
    del scope.spans[:]
    written = scope.SerializeToString()
    del resource.scope_spans[:]
    return Origin(resource.SerializeToString(), written)


def _body_by_library(span: LocalSpan, told: Told) -> bytes:
    without_parent = ReadableSpan(
        name=span.name,
        context=span.context,
        attributes=told.attributes,
        events=told.events,
        links=span.links,
        kind=span.kind,
        status=trace.Status(span.status.status_code, told.reason or None),
        start_time=span.start_time,
        end_time=span.end_time,
    )
    message = encode_spans([without_parent]).resource_spans[0].scope_spans[0].spans[0]
    message.ClearField("flags")
    return message.SerializeToString()


def _attributes(attributes: Mapping[str, Any]) -> Sequence[bytes] | None:
    """The fields, or None where a value is neither text nor number."""
    written = []
    for key, value in attributes.items():
        kind = type(value)
        if kind is str:
            field = _sized(_TEXT, value.encode(errors="replace"))
        elif kind is int and -_UINT64 < 2 * value < _UINT64:
            field = _INTEGER + _varint(value % _UINT64)
        elif kind is bool:
            field = _BOOL + _VARINTS[value]
        elif kind is float:
            field = _DOUBLE + _double(value)
        else:
            return None
        written.append(_sized(_ATTRIBUTE, _key(key) + _sized(_VALUE, field)))
    return written


def _status(code: StatusCode, reason: str) -> bytes:
    if code is StatusCode.UNSET:
        # The SDK writes an empty status too.
        return _STATUS + b"\x00"
    message = _text(_MESSAGE, reason) if reason else b""
    return _sized(_STATUS, message + _CODE + _VARINTS[code.value])


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    """The field of an attribute's name; names are few."""
    return _text(_KEY, name)


def _text(tag: bytes, text: str) -> bytes:
    # Half a surrogate pair, which JSON lets through, is no text that OTLP knows.
    return _sized(tag, text.encode(errors="replace"))


def _sized(tag: bytes, payload: bytes) -> bytes:
    size = len(payload)
    return tag + (_VARINTS[size] if size < _SHORT else _varint(size)) + payload


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= _SHORT:
        groups.append(number % _SHORT + _SHORT)
        number //= _SHORT
    groups.append(number)
    return bytes(groups)
