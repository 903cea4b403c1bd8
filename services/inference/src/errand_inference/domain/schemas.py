"""Validates call arguments against the declared JSON Schemas; remote references are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.domain.format import neutralise

_VALIDATORS_KEPT = 1024
_SPELLABLE = re.compile(r"[^:{}\[\],\s](?:[^:{}\[\],\n]*[^:{}\[\],\s])?")


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"remote reference {uri} is not allowed")


@lru_cache(maxsize=_VALIDATORS_KEPT)
def _validator(schema_json: str) -> Any:
    return jsonschema_rs.validator_for(json.loads(schema_json), retriever=_refuse)


def parse_schema(text: str, *, field: str) -> dict[str, JsonValue]:
    """A schema from its JSON text; empty text is a schema without arguments. Raises InvalidArgument."""
    if not text:
        return {"type": "object", "properties": {}}
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{field}: this is not JSON ({_first_line(error)}).", field=field) from error
    if not isinstance(schema, dict):
        raise InvalidArgument(f"{field}: a JSON Schema is an object.", field=field)
    try:
        _validator(text)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise InvalidArgument(
            f"{field}: this is not a valid JSON Schema ({_first_line(error)}).", field=field
        ) from error
    if unspellable := next(_unspellable(schema), None):
        raise InvalidArgument(
            f"{field}: the property name {unspellable!r} cannot be spelled in a call; "
            "use no colon, comma, brackets, braces or control tokens.",
            field=field,
        )
    return schema


def _unspellable(schema: JsonValue) -> Iterator[str]:
    """Names of properties, at any depth, that the call format cannot hold."""
    if isinstance(schema, list | tuple):
        for item in schema:
            yield from _unspellable(item)
    elif isinstance(schema, Mapping):
        if isinstance(properties := schema.get("properties"), Mapping):
            yield from (name for name in properties if not _SPELLABLE.fullmatch(name) or neutralise(name) != name)
        for value in schema.values():
            yield from _unspellable(value)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def problem_with(call: ToolCall, schema_json: str) -> str | None:
    """What is wrong with a call's arguments, in one line; None when nothing is."""
    if not schema_json:
        return None
    error = next(iter(_validator(schema_json).iter_errors(dict(call.arguments))), None)
    return None if error is None else f"{call.name}: {_first_line(error)}"


def is_json_of(text: str, schema_json: str) -> bool:
    """Whether the text is JSON that the schema admits."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(_validator(schema_json).is_valid(value))
