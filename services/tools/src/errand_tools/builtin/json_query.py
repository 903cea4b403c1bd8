"""Reads values out of JSON with JMESPath, without the parts of it that multiply data."""

import json
from typing import Any

import jmespath  # type: ignore[import-untyped]  # ships no types
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]

from errand_tools.builtin.base import BuiltinTool, computed
from errand_tools.domain.tools import JsonObject, ToolFailed

MAX_JSON_CHARACTERS = 500_000
MAX_QUERY_CHARACTERS = 500
_MAX_BRANCHES = 16
# What can repeat its input is allowed once: `[@, @]` over and over would double the data each time.
_BRANCHING = frozenset({"multi_select_list", "multi_select_dict"})
_NODES = _BRANCHING | {
    "and_expression", "comparator", "current", "expref", "field", "filter_projection", "flatten",
    "function_expression", "identity", "index", "index_expression", "key_val_pair", "literal", "not_expression",
    "or_expression", "pipe", "projection", "slice", "subexpression", "value_projection",
}  # fmt: skip
_FUNCTIONS = frozenset(
    {"abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max", "max_by", "min", "min_by"}
    | {"not_null", "reverse", "sort", "sort_by", "starts_with", "sum", "to_number", "type", "values"}
)


def query(text: str, expression: str) -> Any:
    """What the expression finds. Raises ToolFailed with one sentence for the model."""
    if len(text) > MAX_JSON_CHARACTERS or len(expression) > MAX_QUERY_CHARACTERS:
        raise ToolFailed(
            f"The JSON may have {MAX_JSON_CHARACTERS} characters and the query {MAX_QUERY_CHARACTERS}; send less."
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ToolFailed("The text is not valid JSON.") from None
    try:
        parsed = jmespath.compile(expression)
        _check(parsed.parsed)
        return parsed.search(document)
    except (JMESPathError, RecursionError, TypeError, ValueError) as error:
        told = str(error).split("\n", maxsplit=1)[0][:200].rstrip(".:")
        raise ToolFailed(f"The query cannot be used: {told}; write one such as items[0].name.") from None


def _check(tree: JsonObject) -> None:
    waiting = [tree]
    branchings = 0
    while waiting:
        node = waiting.pop()
        kind = node["type"]
        branchings += kind in _BRANCHING
        if kind not in _NODES or branchings > 1 or len(node["children"]) > _MAX_BRANCHES:
            raise ToolFailed("The query uses too much of JMESPath at once; ask for one thing at a time.")
        if kind == "function_expression" and node["value"] not in _FUNCTIONS:
            raise ToolFailed(f"The query's function '{node['value'][:40]}' is not offered.")
        waiting += [child for child in node["children"] if isinstance(child, dict)]


def _run(arguments: JsonObject) -> JsonObject:
    return {"result": query(arguments["json"], arguments["query"])}


TOOL = BuiltinTool(
    name="json_query",
    description=(
        "Extract, look up, filter or count values in a JSON document with a JMESPath query,"
        " such as items[0].name, people[?age > `30`].name or length(items)."
    ),
    parameters={
        "type": "object",
        "properties": {
            "json": {"type": "string", "description": "The JSON text", "examples": ['{"items": [{"name": "pen"}]}']},
            "query": {"type": "string", "description": "The JMESPath query", "examples": ["items[0].name"]},
        },
        "required": ["json", "query"],
        "additionalProperties": False,
    },
    build=computed(_run, inline_characters=2_000),
    timeout_ms=5_000,
)
