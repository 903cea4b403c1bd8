"""A filter as a condition on rows of documents."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from errand_common.errors import InvalidArgument
from sqlalchemy.dialects.postgresql import JSONB

from errand_rag.domain.filters import (
    BUILT_IN,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    MetadataType,
    MetadataValue,
    NoneOf,
    Operator,
    type_of,
)
from errand_rag.storage.models import DocumentRow

Clause = sa.ColumnElement[bool]
_JSONB: Any = sa.type_coerce(DocumentRow.details, JSONB)
_COLUMNS: dict[str, Any] = {
    "document_id": DocumentRow.id,
    "filename": DocumentRow.filename,
    "title": DocumentRow.title,
    "media_type": DocumentRow.media_type,
    "size_bytes": DocumentRow.size_bytes,
    "created_at": DocumentRow.created_at,
}
_COMPARE: dict[Operator, Callable[[Any, Any], Clause]] = {
    Operator.EQUAL: lambda left, right: left == right,
    Operator.LESS: lambda left, right: left < right,
    Operator.LESS_OR_EQUAL: lambda left, right: left <= right,
    Operator.GREATER: lambda left, right: left > right,
    Operator.GREATER_OR_EQUAL: lambda left, right: left >= right,
}


def where(node: Filter, *, postgres: bool) -> Clause:
    """True or false for every document, never null. Raises InvalidArgument for a date that is none."""
    match node:
        case AllOf():
            return sa.and_(*(where(inner, postgres=postgres) for inner in node.filters))
        case AnyOf():
            return sa.or_(*(where(inner, postgres=postgres) for inner in node.filters))
        case NoneOf():
            return sa.not_(sa.or_(*(where(inner, postgres=postgres) for inner in node.filters)))
        case Condition(operator=Operator.NOT_EQUAL):
            equal = Condition(node.field, Operator.EQUAL, node.values)
            return sa.not_(where(equal, postgres=postgres))
        case Condition():
            return _condition(node, postgres)


def _condition(condition: Condition, postgres: bool) -> Clause:
    if condition.operator is Operator.EXISTS:
        return sa.true() if condition.field in BUILT_IN else _exists(condition.field, postgres)
    operator = Operator.EQUAL if condition.operator is Operator.IN else condition.operator
    compare = _COMPARE[operator]
    return sa.or_(*(_compared(condition.field, value, compare, postgres) for value in condition.values))


def _compared(field: str, value: MetadataValue, compare: Callable[[Any, Any], Clause], postgres: bool) -> Clause:
    if field in _COLUMNS:
        wanted = _moment(value) if field == "created_at" else _clean(value)
        return compare(_COLUMNS[field], wanted)
    kind, stored = _stored(field, type_of(value), postgres)
    # CASE: a database may compute a cast before it looks at the type beside it.
    return sa.case((kind, compare(stored, _clean(value))), else_=sa.false())


def _stored(field: str, kind: MetadataType, postgres: bool) -> tuple[Clause, Any]:
    """Whether the field has this type, and its value as that type."""
    if postgres:
        text = _JSONB[field].astext
        named = sa.func.coalesce(sa.func.jsonb_typeof(_JSONB[field]), "") == kind.value
        casts: dict[MetadataType, Any] = {MetadataType.NUMBER: sa.Float(53), MetadataType.BOOLEAN: sa.Boolean()}
        # The order of code points, as SQLite's, not that of some language.
        return named, sa.cast(text, casts[kind]) if kind in casts else sa.collate(text, "C")
    types = {
        MetadataType.STRING: ("text",),
        MetadataType.NUMBER: ("integer", "real"),
        MetadataType.BOOLEAN: ("true", "false"),
    }[kind]
    path = f"$.{field}"
    stored: sa.ColumnElement[Any] = sa.func.json_extract(DocumentRow.details, path)
    return sa.func.coalesce(sa.func.json_type(DocumentRow.details, path), "").in_(types), stored


def _exists(field: str, postgres: bool) -> Clause:
    if postgres:
        has: Clause = _JSONB.has_key(field)
        return has
    return sa.func.json_type(DocumentRow.details, f"$.{field}").is_not(None)


def _clean(value: MetadataValue) -> MetadataValue:
    # Postgres takes no NUL in a text; nothing is stored with one.
    return value.replace("\x00", "") if isinstance(value, str) else value


def _moment(value: MetadataValue) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise InvalidArgument(
            f"created_at is compared with {str(value)[:40]!r}; give a date in ISO 8601", field="filter"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
