"""Which documents a search may look into: typed comparisons, joined by and, or, not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from errand_common.errors import InvalidArgument

MetadataValue = str | float | bool
MAX_DEPTH = 6
MAX_CONDITIONS = 64


class MetadataType(StrEnum):
    """Type of a metadata field."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


class Operator(StrEnum):
    """How a condition compares."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    IN = "in"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """Compares one field; a document without the field, or with another type, does not match."""

    field: str
    operator: Operator
    values: tuple[MetadataValue, ...] = ()


@dataclass(frozen=True, slots=True)
class AllOf:
    """And."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Or."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Not."""

    filters: tuple["Filter", ...]


Filter = Condition | AllOf | AnyOf | NoneOf

# Fields that every document has; metadata may not be named so.
BUILT_IN: Mapping[str, MetadataType] = {
    "document_id": MetadataType.STRING,
    "filename": MetadataType.STRING,
    "title": MetadataType.STRING,
    "media_type": MetadataType.STRING,
    "size_bytes": MetadataType.NUMBER,
    "created_at": MetadataType.STRING,
}


def type_of(value: MetadataValue) -> MetadataType:
    """The type of a value."""
    if isinstance(value, bool):
        return MetadataType.BOOLEAN
    return MetadataType.STRING if isinstance(value, str) else MetadataType.NUMBER


def check_filter(node: Filter) -> None:
    """Raises InvalidArgument for a filter that is too deep or large, or compares what cannot be."""
    if _depth(node) > MAX_DEPTH:
        raise InvalidArgument(f"filter is more than {MAX_DEPTH} deep; flatten it", field="filter")
    conditions = list(_conditions(node))
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidArgument(f"filter has more than {MAX_CONDITIONS} conditions; use fewer", field="filter")
    for condition in conditions:
        _check_condition(condition)


def check_metadata(metadata: Mapping[str, MetadataValue], schema: Mapping[str, MetadataType]) -> None:
    """Raises InvalidArgument for a field with a name of ours, not in the schema, or of another type."""
    for name, value in metadata.items():
        if name in BUILT_IN:
            raise InvalidArgument(f"metadata field '{name}' is set by the service; use another name", field="metadata")
        if schema and name not in schema:
            raise InvalidArgument(
                f"metadata field '{name}' is not in the collection's schema; it has {', '.join(sorted(schema))}",
                field="metadata",
            )
        if schema and schema[name] is not type_of(value):
            raise InvalidArgument(
                f"metadata field '{name}' is a {type_of(value)}; the schema asks for a {schema[name]}",
                field="metadata",
            )


def check_schema(schema: Mapping[str, MetadataType]) -> None:
    """Raises InvalidArgument for a field with a name of ours."""
    for name in schema:
        if name in BUILT_IN:
            raise InvalidArgument(
                f"metadata field '{name}' is set by the service; use another name",
                field="collection.metadata_schema",
            )


def _check_condition(condition: Condition) -> None:
    operator, count = condition.operator, len(condition.values)
    wanted = {Operator.EXISTS: count == 0, Operator.IN: count >= 1}.get(operator, count == 1)
    if not wanted:
        raise InvalidArgument(
            f"the condition on '{condition.field}' has {count} values; give one, several for IN, none for EXISTS",
            field="filter",
        )
    kind = BUILT_IN.get(condition.field)
    if kind is not None and any(type_of(value) is not kind for value in condition.values):
        raise InvalidArgument(f"'{condition.field}' is compared with a {kind}", field="filter")
    ordered = operator not in (Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN, Operator.EXISTS)
    if ordered and isinstance(condition.values[0], bool):
        raise InvalidArgument(f"'{condition.field}': true and false have no order; use EQUAL", field="filter")


def _depth(node: Filter) -> int:
    return 1 if isinstance(node, Condition) else 1 + max(map(_depth, node.filters))


def _conditions(node: Filter) -> Iterator[Condition]:
    if isinstance(node, Condition):
        yield node
        return
    for inner in node.filters:
        yield from _conditions(inner)
