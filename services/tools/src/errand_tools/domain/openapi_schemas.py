"""OpenAPI's schemas as JSON Schema 2020-12 with every reference written out, as a small model reads them best."""

from collections.abc import Mapping
from typing import Any

from errand_tools.domain.documents import resolve_local
from errand_tools.domain.schema import MAX_EXPANDED_NODES, MAX_SCHEMA_DEPTH
from errand_tools.domain.tools import JsonObject

# Said about a schema, and no rule for its values.
_DROPPED = frozenset(
    {"example", "examples", "discriminator", "xml", "externalDocs", "deprecated", "readOnly", "writeOnly", "nullable"}
    | {"$schema", "$comment", "contentMediaType", "contentEncoding"}
)
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"})
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


class Unusable(Exception):  # noqa: N818  reads as what it is
    """An operation cannot be a tool; the message says why, without a full stop."""


def json_schema(document: JsonObject, schema: Any, *, is_30: bool) -> JsonObject:
    """The schema without references. Raises Unusable when it is recursive, too large, or refers to nothing."""
    converted = _Converter(document, is_30=is_30).convert(schema, (), 0)
    return converted if isinstance(converted, dict) else {}


class _Converter:
    def __init__(self, document: JsonObject, *, is_30: bool) -> None:
        self._document = document
        self._is_30 = is_30
        self._nodes = 0

    def convert(self, schema: Any, open_: tuple[str, ...], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_EXPANDED_NODES or depth > MAX_SCHEMA_DEPTH:
            raise Unusable("its schema is too large or too deep")
        if not isinstance(schema, Mapping):
            return schema if isinstance(schema, bool) else {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._follow(reference, open_, depth)
        converted = {
            key: self._keyword(key, value, open_, depth)
            for key, value in schema.items()
            if isinstance(key, str) and key not in _DROPPED and not key.startswith("x-")
        }
        _drop_read_only(schema, converted)
        if self._is_30:
            _from_30(schema, converted)
        return converted

    def _follow(self, reference: str, open_: tuple[str, ...], depth: int) -> Any:
        if reference in open_:
            raise Unusable("its schema refers to itself")
        target = resolve_local(self._document, reference)
        if target is None:
            raise Unusable(f"it refers to {reference[:200]!r}, which is not there")
        return self.convert(target, (*open_, reference), depth + 1)

    def _keyword(self, key: str, value: Any, open_: tuple[str, ...], depth: int) -> Any:
        if key in _SCHEMA_MAPS and isinstance(value, Mapping):
            return {str(name): self.convert(item, open_, depth + 1) for name, item in value.items()}
        if key in _SCHEMA_LISTS and isinstance(value, list):
            return [self.convert(item, open_, depth + 1) for item in value]
        return self.convert(value, open_, depth + 1) if key in _SCHEMAS else value


def _drop_read_only(schema: Mapping[str, Any], converted: JsonObject) -> None:
    """What only the server sets is no argument."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return
    dropped = {name for name, part in properties.items() if isinstance(part, Mapping) and part.get("readOnly") is True}
    if dropped and isinstance(converted.get("properties"), dict):
        converted["properties"] = {name: part for name, part in converted["properties"].items() if name not in dropped}
        required = converted.get("required")
        converted["required"] = [name for name in required if name not in dropped] if isinstance(required, list) else []


def _from_30(schema: Mapping[str, Any], converted: JsonObject) -> None:
    """What 3.0 says in words of its own."""
    if schema.get("nullable") is True and isinstance(converted.get("type"), str):
        converted["type"] = [converted["type"], "null"]
        if isinstance(converted.get("enum"), list) and None not in converted["enum"]:
            converted["enum"] = [*converted["enum"], None]
    for exclusive, bound in _EXCLUSIVE.items():
        if isinstance(schema.get(exclusive), bool):
            del converted[exclusive]
            if schema[exclusive] and bound in converted:
                converted[exclusive] = converted.pop(bound)
