"""Protobuf values to plain ones, shared by all adapters."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import orjson
from errand.common.v1 import common_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from errand_gateway.domain.resources import PageQuery, Usage

E = TypeVar("E", bound=StrEnum)


class _ProtoEnum(Protocol):
    def Name(self, number: Any) -> str: ...  # noqa: N802 - protobuf's name
    def Value(self, name: str) -> Any: ...  # noqa: N802 - protobuf's name


def moment(message: Any, field: str) -> datetime | None:
    """A timestamp field as an aware datetime in UTC; None when it is unset."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(tzinfo=UTC)


def timestamp(value: datetime | None) -> Timestamp | None:
    """An aware datetime for the wire; None stays unset."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message


def enum_or_none(kind: type[E], proto: _ProtoEnum, number: int, prefix: str) -> E | None:
    """The enum's member of the same name; None for UNSPECIFIED and for names this build lacks."""
    try:
        return kind(_spelled(kind, proto.Name(number).removeprefix(prefix)))
    except ValueError:
        return None


def enum_or(kind: type[E], proto: _ProtoEnum, number: int, prefix: str, default: E) -> E:
    """Like enum_or_none, with a default."""
    return enum_or_none(kind, proto, number, prefix) or default


def enum_number(proto: _ProtoEnum, prefix: str, value: StrEnum | None) -> Any:
    """The number of a member; 0 (UNSPECIFIED) for None."""
    return proto.Value(prefix + value.name) if value is not None else 0


def _spelled(kind: type[StrEnum], name: str) -> str:
    member = kind.__members__.get(name)
    if member is None:
        raise ValueError(name)
    return member.value


def json_value(text: str) -> Any:
    """A JSON text as a value; None for an empty one, the text itself when it is no JSON."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def json_object(text: str) -> dict[str, Any] | None:
    """A JSON object; None for an empty text or another JSON value."""
    value = json_value(text)
    return value if isinstance(value, dict) else None


def json_text(value: Any) -> str:
    """A value as compact JSON."""
    return orjson.dumps(value).decode()


def usage(value: common_pb2.TokenUsage) -> Usage:
    """Token counts."""
    return Usage(value.prompt_tokens, value.completion_tokens, value.cached_tokens)


def page_request(page: PageQuery) -> common_pb2.PageRequest:
    """A page query."""
    return common_pb2.PageRequest(page_size=page.size, page_token=page.token)
