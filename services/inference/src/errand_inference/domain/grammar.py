"""From tool declarations to a grammar that admits well-formed turns only.

The grammar is a small tree of rules of our own, written out in the two dialects that engines read:
EBNF (xgrammar, inside OpenVINO GenAI) and Lark (llguidance). What JSON Schema can say and a grammar
cannot (patterns, bounds) is widened here; arguments are validated against the full schema afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import JsonValue, ToolDeclaration
from errand_inference.domain.format import END_CALL, ESCAPE, START_CALL, START_RESPONSE, neutralise

MOST_CALLS = 8
_DEEPEST = 6
_LONGEST_ARRAY = 64


class ToolChoice(Enum):
    """Whether a turn may call, must, or must not."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Text:
    """Exactly this text."""

    value: str


@dataclass(frozen=True, slots=True)
class Marker:
    """A control token."""

    token: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule of the grammar."""

    name: str


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; `most` None is without limit."""

    part: Node
    least: int
    most: int | None


Node = Text | Marker | Rule | Series | Choice | Repeat

# Terminals that both dialects spell by themselves.
STRING, INTEGER, NUMBER, KEY, FREE_TEXT = (Rule(name) for name in ("string", "integer", "number", "key", "free_text"))
VALUE = Rule("value")


@dataclass(frozen=True, slots=True)
class Grammar:
    """Named rules, `root` among them."""

    rules: Mapping[str, Node]


@dataclass(slots=True)
class _Builder:
    """Collects rules while schemas are walked."""

    rules: dict[str, Node] = field(default_factory=dict)

    def name(self, node: Node) -> Rule:
        rule = Rule(f"r{len(self.rules)}")
        self.rules[rule.name] = node
        return rule


def build_grammar(
    tools: Sequence[ToolDeclaration], *, choice: ToolChoice = ToolChoice.AUTO, single_call: bool = False
) -> Grammar:
    """The grammar of one turn. `tools` are those that may be called.

    Raises InvalidArgument for REQUIRED without tools.
    """
    builder = _Builder()
    if choice is ToolChoice.NONE or not tools:
        if choice is ToolChoice.REQUIRED:
            raise InvalidArgument("tool_choice: a call is required but no tool is declared.", field="tool_choice")
        return Grammar({"root": FREE_TEXT})
    calls = [_call(builder, tool) for tool in tools]
    call = builder.name(Choice(tuple(calls)))
    turn = Series((Repeat(call, 1, 1 if single_call else MOST_CALLS), Marker(START_RESPONSE)))
    root: Node = turn if choice is ToolChoice.REQUIRED else Choice((turn, FREE_TEXT))
    builder.rules["value"] = _any_value()
    builder.rules["root"] = root
    return Grammar(builder.rules)


def _call(builder: _Builder, tool: ToolDeclaration) -> Node:
    arguments = _object(builder, {"type": "object", **tool.parameters}, tool.parameters, 0)
    return Series((Marker(START_CALL), Text(f"call:{tool.name}"), arguments, Marker(END_CALL)))


def _schema(builder: _Builder, schema: JsonValue, root: Mapping[str, JsonValue], depth: int) -> Node:
    """The values a schema admits, or more."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return VALUE
    if isinstance(reference := schema.get("$ref"), str):
        return _schema(builder, _resolve(reference, root), root, depth + 1)
    if "const" in schema:
        return _constant(schema["const"])
    if isinstance(options := schema.get("enum"), list | tuple) and options:
        return Choice(tuple(_constant(option) for option in options))
    for keyword in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(keyword), list | tuple) and branches:
            return Choice(tuple(_schema(builder, branch, root, depth + 1) for branch in branches))
    return _typed(builder, schema, root, depth)


def _typed(builder: _Builder, schema: Mapping[str, JsonValue], root: Mapping[str, JsonValue], depth: int) -> Node:
    kinds = schema.get("type")
    if isinstance(kinds, list | tuple) and kinds:
        return Choice(tuple(_typed(builder, {**schema, "type": kind}, root, depth) for kind in kinds))
    match kinds:
        case "string":
            return STRING
        case "integer":
            return INTEGER
        case "number":
            return NUMBER
        case "boolean":
            return Choice((Text("true"), Text("false")))
        case "null":
            return Text("null")
        case "array":
            return _array(_schema(builder, schema.get("items"), root, depth + 1), schema)
        case "object":
            return _object(builder, schema, root, depth)
        case _:
            return _object(builder, schema, root, depth) if "properties" in schema else VALUE


def _resolve(reference: str, root: Mapping[str, JsonValue]) -> JsonValue:
    """A local reference's schema; anything else admits every value."""
    node: JsonValue = root
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if reference.startswith("#/") else None


def _constant(value: JsonValue) -> Node:
    if isinstance(value, str):
        return Series((Marker(ESCAPE), Text(neutralise(value)), Marker(ESCAPE)))
    if isinstance(value, Mapping | list | tuple):
        return VALUE
    return Text(json.dumps(value))


def _array(item: Node, schema: Mapping[str, JsonValue]) -> Node:
    least, most = (_bound(schema.get(key), default) for key, default in (("minItems", 0), ("maxItems", _LONGEST_ARRAY)))
    most = max(least, min(most, _LONGEST_ARRAY))
    if most == 0:
        return Text("[]")
    rest = Repeat(Series((Text(","), item)), max(0, least - 1), most - 1)
    filled = Series((item, rest))
    return Series((Text("["), filled if least else Repeat(filled, 0, 1), Text("]")))


def _bound(value: JsonValue, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _object(builder: _Builder, schema: Mapping[str, JsonValue], root: Mapping[str, JsonValue], depth: int) -> Node:
    """Members in alphabetical order; required ones always, the others perhaps."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return Text("{}") if schema.get("additionalProperties") is False or depth == 0 else _open_object()
    wanted = schema.get("required")
    required = set(wanted) if isinstance(wanted, list | tuple) else set()
    members: list[tuple[Node, bool]] = []
    for key in sorted(properties):
        value = _schema(builder, properties[key], root, depth + 1)
        members.append((Series((Text(f"{key}:"), value)), key in required))
    return Series((Text("{"), _members(builder, members), Text("}")))


def _members(builder: _Builder, members: list[tuple[Node, bool]]) -> Node:
    """Whichever member is the first one has no comma before it."""
    tails: list[Node] = [Text("")]
    for node, needed in reversed(members[1:]):
        with_comma = Series((Text(","), node))
        part = with_comma if needed else Repeat(with_comma, 0, 1)
        tails.append(builder.name(Series((part, tails[-1]))))
    tails.reverse()
    options: list[Node] = []
    for index, (node, needed) in enumerate(members):
        options.append(Series((node, tails[index])))
        if needed:
            return Choice(tuple(options))
    return Choice((*options, Text("")))


def _open_object() -> Node:
    pair = Series((KEY, Text(":"), VALUE))
    return Series((Text("{"), Repeat(Series((pair, Repeat(Series((Text(","), pair)), 0, 15))), 0, 1), Text("}")))


def _any_value() -> Node:
    array = Series((Text("["), Repeat(Series((VALUE, Repeat(Series((Text(","), VALUE)), 0, 15))), 0, 1), Text("]")))
    return Choice((STRING, NUMBER, Text("true"), Text("false"), Text("null"), array, _open_object()))
