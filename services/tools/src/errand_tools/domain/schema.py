"""Argument schemas: which ones are accepted, and how arguments are checked against them."""

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jsonschema_rs
from errand_common.errors import InvalidArgument

from errand_tools.domain.tools import JsonObject, canonical_json

MAX_SCHEMA_DEPTH = 24
MAX_EXPANDED_NODES = 5_000
MAX_ARGUMENTS = 64
MAX_PATTERN_CHARACTERS = 512
MAX_ARGUMENT_DEPTH = 32
_FIELD = "tool.parameters_json"
_RESULT_FIELD = "tool.result_schema_json"
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
_INTEGER = re.compile(r"^[+-]?\d{1,18}$")
_NUMBER = re.compile(r"^[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,3})?$")
# A reference that names anything but a place in the same document, or that is found by name at run
# time, could reach the network or grow without a bound we can count.
_REFUSED_KEYWORDS = frozenset({"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"})
# Their values are data, not schemas: nothing in them is a keyword.
_DATA_KEYWORDS = frozenset({"const", "default", "enum", "examples", "required", "type"})
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def parse_parameters(text: str) -> JsonObject:
    """Read and check a tool's argument schema.

    Raises InvalidArgument (field tool.parameters_json) when it is not a JSON Schema 2020-12 object
    schema, refers to something outside itself, is recursive, or is too deep or too large.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"is not JSON: {error}", "json") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise _refused('must be an object schema: {"type": "object", "properties": {…}}', "object")
    _check_arguments(schema)
    _Expansion(schema).check()
    try:
        _compile(schema)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise _refused(f"is not a valid JSON Schema: {_first_line(error)}", "schema") from None
    return schema


def parse_result_schema(text: str) -> JsonObject:
    """Read and check the schema of a tool's result, held to the same bounds as that of its arguments.

    Raises InvalidArgument (field tool.result_schema_json).
    """
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict):
            raise _refused("must be an object", "object")
        _Expansion(schema).check()
        _compile(schema)
    except InvalidArgument as error:
        message = error.message.replace("parameters_json", "result_schema_json")
        raise InvalidArgument(message, field=_RESULT_FIELD, rule=error.metadata.get("rule", "")) from None
    except (ValueError, RecursionError, jsonschema_rs.ValidationError) as error:
        raise InvalidArgument(
            f"result_schema_json is not a valid JSON Schema: {_first_line(error)}", field=_RESULT_FIELD, rule="schema"
        ) from None
    return schema


def check_result(schema: Mapping[str, Any], value: Any) -> str:
    """What is wrong with a result, in a few words; empty for nothing."""
    error = next(iter(_VALIDATORS.get(schema, "").iter_errors(value)), None)
    if error is None:
        return ""
    where = ".".join(str(part) for part in error.instance_path)
    return f"{where}: {error.message[:200]}" if where else error.message[:200]


class Problem(NamedTuple):
    """What is wrong with arguments and what would be right, in a sentence for the model.

    `argument` is the one at fault; empty where it is none of the tool's.
    """

    sentence: str
    argument: str = ""


def check_arguments(
    schema: Mapping[str, Any], arguments: JsonObject, *, schema_hash: str = ""
) -> tuple[JsonObject, Problem | None]:
    """Coerce what is safe to coerce, then validate: the arguments to run with, or what is wrong with them.

    `schema_hash` names the schema, where it is known, so that it need not be written out for each call.
    """
    if _depth_exceeds(arguments, MAX_ARGUMENT_DEPTH):
        return arguments, Problem(f"The arguments are nested deeper than {MAX_ARGUMENT_DEPTH} levels.")
    problem = _check_names(schema, arguments)
    if problem:
        return arguments, problem
    coerced = _coerce(schema, schema, arguments, 0)
    error = next(iter(_VALIDATORS.get(schema, schema_hash).iter_errors(coerced)), None)
    return coerced, _problem(error) if error is not None else None


def _refused(message: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"parameters_json {message}", field=_FIELD, rule=rule)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0][:300]


def _compile(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        dict(schema),
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20),
    )


class _Validators:
    """The validators used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, jsonschema_rs.Draft202012Validator] = OrderedDict()

    def get(self, schema: Mapping[str, Any], schema_hash: str) -> jsonschema_rs.Draft202012Validator:
        key = schema_hash or canonical_json(schema)
        validator = self._kept.get(key)
        if validator is None:
            validator = self._kept[key] = _compile(schema)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return validator


_VALIDATORS = _Validators(most=1024)


def _check_arguments(schema: JsonObject) -> None:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise _refused("has 'properties' that is not an object", "properties")
    if len(properties) > MAX_ARGUMENTS:
        raise _refused(f"has {len(properties)} arguments; {MAX_ARGUMENTS} is the most", "size")
    for name in properties:
        if not _NAME.match(name):
            raise _refused(
                f"names an argument {name[:80]!r}; use letters, digits, '_' and '-', at most 64,"
                " starting with a letter",
                "name",
            )


class _Expansion:
    """Counts a schema's nodes with every reference followed, as a validator would.

    A few lines of `allOf` over references double at each level; the count is memoised, so that
    refusing them costs no more than reading them.
    """

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._counted: dict[str, int] = {}
        self._open: set[str] = set()

    def check(self) -> None:
        nodes = self._count(self._root, 0)
        if nodes > MAX_EXPANDED_NODES:
            raise _refused(f"has more than {MAX_EXPANDED_NODES} nodes with its references followed", "size")

    def _count(self, node: Any, depth: int) -> int:
        if depth > MAX_SCHEMA_DEPTH:
            raise _refused(f"is nested deeper than {MAX_SCHEMA_DEPTH} levels", "depth")
        if isinstance(node, list):
            return self._sum(self._count(item, depth + 1) for item in node)
        if not isinstance(node, dict):
            return 1
        for keyword in _REFUSED_KEYWORDS & node.keys():
            raise _refused(f"uses {keyword}; only '$ref': '#/…' is offered", "ref")
        self._check_pattern(node)
        return self._sum(self._count_keyword(key, value, depth) for key, value in node.items())

    def _count_keyword(self, key: str, value: Any, depth: int) -> int:
        if key == "$ref":
            return self._count_reference(value, depth)
        if key in _DATA_KEYWORDS:
            return 1
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            return self._sum(self._count(schema, depth + 1) for schema in value.values())
        return self._count(value, depth + 1)

    def _count_reference(self, reference: Any, depth: int) -> int:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise _refused(
                f"refers to {str(reference)[:200]!r}; only '#/…' inside the schema is followed",
                "ref",
            )
        if reference in self._open:
            raise _refused(f"refers to itself through {reference[:200]!r}", "ref")
        if reference not in self._counted:
            self._open.add(reference)
            self._counted[reference] = self._count(resolve(self._root, reference), depth + 1)
            self._open.discard(reference)
        return self._counted[reference]

    @staticmethod
    def _sum(counts: Iterator[int]) -> int:
        total = 1
        for count in counts:
            total += count
            if total > MAX_EXPANDED_NODES:
                return MAX_EXPANDED_NODES + 1
        return total

    @staticmethod
    def _check_pattern(node: JsonObject) -> None:
        patterns = [node.get("pattern"), *_keys(node.get("patternProperties"))]
        for pattern in patterns:
            if isinstance(pattern, str) and len(pattern) > MAX_PATTERN_CHARACTERS:
                raise _refused(f"has a pattern of more than {MAX_PATTERN_CHARACTERS} characters", "pattern")


def _keys(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def resolve(root: Mapping[str, Any], reference: str) -> Any:
    """What a '#/…' reference points at. Raises InvalidArgument when there is nothing."""
    node: Any = root
    for raw in reference[2:].split("/"):
        part = raw.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or part not in node:
            raise _refused(f"refers to {reference[:200]!r}, which is not there", "ref")
        node = node[part]
    return node


def _depth_exceeds(value: Any, limit: int) -> bool:
    if limit < 0:
        return True
    if isinstance(value, dict):
        return any(_depth_exceeds(item, limit - 1) for item in value.values())
    if isinstance(value, list):
        return any(_depth_exceeds(item, limit - 1) for item in value)
    return False


def _check_names(schema: Mapping[str, Any], arguments: JsonObject) -> Problem | None:
    """Missing and unknown arguments, told apart from wrong values because they are cured apart."""
    known = list(schema.get("properties", {}))
    missing = [name for name in schema.get("required", []) if name not in arguments]
    if missing:
        return Problem(f"The required argument '{missing[0]}' is missing; expected {_listed(known)}.", missing[0])
    open_ended = schema.get("additionalProperties", False) or "patternProperties" in schema
    unknown = [name for name in arguments if name not in known]
    if unknown and not open_ended:
        return Problem(f"The argument '{unknown[0][:80]}' is not known; expected {_listed(known)}.")
    return None


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "no arguments"


def _coerce(root: Mapping[str, Any], schema: Any, value: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_ARGUMENT_DEPTH:
        return value
    if "$ref" in schema:
        return _coerce(root, resolve(root, schema["$ref"]), value, depth + 1)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {key: _coerce(root, properties.get(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_coerce(root, schema.get("items"), item, depth + 1) for item in value]
    coerce = _COERCIONS.get(str(schema.get("type")))
    return coerce(value) if coerce else value


def _to_integer(value: Any) -> Any:
    if isinstance(value, str) and _INTEGER.match(value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _to_number(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.match(value.strip()):
        number = float(value)
        return int(value) if _INTEGER.match(value.strip()) else number
    return value


def _to_boolean(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    return value


_COERCIONS: Mapping[str, Callable[[Any], Any]] = {
    "integer": _to_integer,
    "number": _to_number,
    "boolean": _to_boolean,
}


def _problem(error: jsonschema_rs.ValidationError) -> Problem:
    where = ".".join(str(part) for part in error.instance_path)
    message = error.message if len(error.message) <= 300 else error.message[:297] + "..."
    if not where:
        return Problem(f"The arguments are not valid: {message}.")
    return Problem(f"The argument '{where}' is not valid: {message}.", str(error.instance_path[0]))
