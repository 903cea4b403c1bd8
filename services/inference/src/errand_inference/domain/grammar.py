"""From tool declarations to a grammar that admits well-formed turns only.

The grammar is a small tree of rules of our own, written out in the two dialects that engines read:
EBNF (xgrammar, inside OpenVINO GenAI) and Lark (llguidance). What JSON Schema can say and a grammar
cannot (patterns, bounds of fractions) is widened here; arguments are validated against the full schema afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import JsonValue, ToolDeclaration
from errand_inference.domain.format import END_CALL, ESCAPE, START_CALL, START_RESPONSE, neutralise

MOST_CALLS = 8
# What a JSON string cannot hold as it is, as in a character class.
NEVER_IN_JSON = r'"\\\x00-\x1f'
_DEEPEST = 16
_LONGEST_ARRAY = 64
_MOST_NODES = 20_000
_LARGEST_INTEGER = 10**18 - 1


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


@dataclass(frozen=True, slots=True)
class Letters:
    """`least` to `most` characters, none of them "<" or one of `never` (spelled as in a character class)."""

    never: str
    least: int
    most: int


Node = Text | Marker | Rule | Series | Choice | Repeat | Letters


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that make every turn end: characters of a string, items of an array, whether optional members
    are offered at all. Values of any type are plain ones, one call is made."""

    characters: int
    items: int
    optional: bool


# Terminals that both dialects spell by themselves.
FREE_TEXT, DIGIT, DIGIT_BUT_ZERO, INTEGER, NUMBER, POSITIVE = (
    Rule(name) for name in ("free_text", "digit", "digit_but_zero", "integer", "number", "positive")
)
VALUE = Rule("value")
NOTHING = Text("")


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a value is written: strings, the names of members."""

    string: Rule
    any_key: Rule
    bounded: Callable[[int, int], Node]
    spell_string: Callable[[str], Node]
    spell_key: Callable[[str], str]


def _escaped(text: str) -> Node:
    return Series((Marker(ESCAPE), Text(neutralise(text)), Marker(ESCAPE)))


def _escaped_letters(least: int, most: int) -> Node:
    return Series((Marker(ESCAPE), Letters(r"\x00", least, most), Marker(ESCAPE)))


def _json_letters(least: int, most: int) -> Node:
    return Series((Text('"'), Letters(NEVER_IN_JSON, least, most), Text('"')))


CALL_SYNTAX = Syntax(Rule("string"), Rule("key"), _escaped_letters, _escaped, neutralise)
JSON_SYNTAX = Syntax(
    Rule("json_string"),
    Rule("json_key"),
    _json_letters,
    lambda text: Text(json.dumps(text, ensure_ascii=False)),
    lambda key: json.dumps(key, ensure_ascii=False),
)


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """Named rules, `root` among them. Equal to itself only, so that what is made of it can be cached by it."""

    rules: Mapping[str, Node]


def build_grammar(
    tools: Sequence[ToolDeclaration],
    *,
    choice: ToolChoice = ToolChoice.AUTO,
    single_call: bool = False,
    limits: Limits | None = None,
) -> Grammar:
    """The grammar of one turn. `tools` are those that may be called; with `limits` every call is bounded.

    Raises InvalidArgument for REQUIRED without tools.
    """
    if choice is ToolChoice.NONE or not tools:
        if choice is ToolChoice.REQUIRED:
            raise InvalidArgument("tool_choice: a call is required but no tool is declared.", field="tool_choice")
        return Grammar({"root": FREE_TEXT})
    rules: dict[str, Node] = {}
    rules["call"] = Choice(tuple(_call(rules, tool, limits) for tool in tools))
    # The end of an only call is the end of the turn: its marker would be one token more.
    turn: Node = Rule("call")
    if not (single_call or limits):
        turn = Series((Repeat(Series((turn, Marker(END_CALL))), 1, MOST_CALLS), Marker(START_RESPONSE)))
    rules["root"] = turn if choice is ToolChoice.REQUIRED else Choice((turn, FREE_TEXT))
    rules["value"] = _any_value(CALL_SYNTAX, limits)
    return Grammar(rules)


def build_json_grammar(schema: Mapping[str, JsonValue], *, limits: Limits | None = None) -> Grammar:
    """The grammar of JSON text of this schema, without white space between its parts."""
    rules: dict[str, Node] = {}
    builder = _Builder(JSON_SYNTAX, schema, rules, limits)
    rules["root"] = builder.value(schema, 0, frozenset())
    rules["value"] = _any_value(JSON_SYNTAX, limits)
    return Grammar(rules)


def _call(rules: dict[str, Node], tool: ToolDeclaration, limits: Limits | None) -> Node:
    builder = _Builder(CALL_SYNTAX, tool.parameters, rules, limits)
    arguments = builder.arguments()
    return Series((Marker(START_CALL), Text(f"call:{tool.name}"), arguments))


@dataclass(slots=True)
class _Builder:
    """Walks one schema; rules it names are collected in `rules`, which tools of one turn share."""

    syntax: Syntax
    root: Mapping[str, JsonValue]
    rules: dict[str, Node]
    limits: Limits | None = None
    _references: dict[str, Rule] = field(default_factory=dict)
    _nodes: int = 0

    def arguments(self) -> Node:
        """The arguments of a call: an object whose members are the declared ones."""
        schema = self._followed({**self.root, "type": "object"})
        if not schema.get("properties"):
            return Text("{}")
        return self.object(schema, 0)

    def _followed(self, schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """The schema itself, or the one that its reference leads to."""
        seen: set[str] = set()
        while isinstance(reference := schema.get("$ref"), str) and reference not in seen:
            seen.add(reference)
            target = _resolve(reference, self.root)
            if not isinstance(target, Mapping):
                return schema
            schema = target
        return schema

    def value(self, schema: JsonValue, depth: int, expanding: frozenset[str]) -> Node:
        """The values a schema admits, or more.

        `expanding` holds the references that led here without a character in between. Only outside of
        such a chain is a rule of its own made for a reference: so no rule begins with itself.
        """
        self._nodes += 1
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self._nodes > _MOST_NODES:
            return VALUE
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, depth, expanding)
        if "const" in schema:
            return self._constant(schema["const"])
        if isinstance(options := schema.get("enum"), list | tuple) and options:
            return Choice(tuple(self._constant(option) for option in options))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(keyword), list | tuple) and branches:
                return Choice(tuple(self.value(branch, depth + 1, expanding) for branch in branches))
        if isinstance(parts := schema.get("allOf"), list | tuple) and len(parts) == 1 and "type" not in schema:
            return self.value(parts[0], depth + 1, expanding)
        return self._typed(schema, depth)

    def _reference(self, reference: str, depth: int, expanding: frozenset[str]) -> Node:
        target = _resolve(reference, self.root)
        if target is None or reference in expanding:
            return VALUE
        if expanding:
            return self.value(target, depth + 1, expanding | {reference})
        if reference not in self._references:
            rule = self._named(VALUE)
            self._references[reference] = rule
            self.rules[rule.name] = self.value(target, 1, frozenset({reference}))
        return self._references[reference]

    def _named(self, node: Node) -> Rule:
        rule = Rule(f"r{len(self.rules)}")
        self.rules[rule.name] = node
        return rule

    def _typed(self, schema: Mapping[str, JsonValue], depth: int) -> Node:
        kinds = schema.get("type")
        if isinstance(kinds, list | tuple) and kinds:
            return Choice(tuple(self._typed({**schema, "type": kind}, depth) for kind in kinds))
        match kinds:
            case "string":
                return self._string(schema)
            case "integer":
                return _integer(schema)
            case "number":
                return POSITIVE if _is_unsigned(schema) else NUMBER
            case "boolean":
                return Choice((Text("true"), Text("false")))
            case "null":
                return Text("null")
            case "array":
                longest = self.limits.items if self.limits else _LONGEST_ARRAY
                return _array(self.value(schema.get("items"), depth + 1, frozenset()), schema, longest)
            case "object":
                return self.object(schema, depth)
            case _:
                return self.object(schema, depth) if "properties" in schema else VALUE

    def _string(self, schema: Mapping[str, JsonValue]) -> Node:
        if self.limits is None:
            return self.syntax.string
        most = min(self.limits.characters, _bound(schema.get("maxLength"), self.limits.characters))
        return self.syntax.bounded(min(most, _bound(schema.get("minLength"), 0)), most)

    def _constant(self, value: JsonValue) -> Node:
        if isinstance(value, str):
            return self.syntax.spell_string(value)
        if isinstance(value, Mapping | list | tuple):
            return VALUE
        return Text(json.dumps(value))

    def object(self, schema: Mapping[str, JsonValue], depth: int) -> Node:
        """Members in alphabetical order; required ones always, the others perhaps."""
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            closed = schema.get("additionalProperties") is False or self.limits is not None
            return Text("{}") if closed else _open_object(self.syntax)
        wanted = schema.get("required")
        required = set(wanted) if isinstance(wanted, list | tuple) else set()
        members: list[tuple[Node, bool]] = []
        for key in sorted(properties):
            if self.limits and not self.limits.optional and key not in required:
                continue
            value = self.value(properties[key], depth + 1, frozenset())
            members.append((Series((Text(f"{self.syntax.spell_key(key)}:"), value)), key in required))
        return Series((Text("{"), self._members(members), Text("}"))) if members else Text("{}")

    def _members(self, members: list[tuple[Node, bool]]) -> Node:
        """Whichever member is the first one has no comma before it."""
        tails: list[Node] = [NOTHING]
        for node, needed in reversed(members[1:]):
            with_comma = Series((Text(","), node))
            part = with_comma if needed else Repeat(with_comma, 0, 1)
            tails.append(self._named(Series((part, tails[-1]))))
        tails.reverse()
        options: list[Node] = []
        for index, (node, needed) in enumerate(members):
            options.append(Series((node, tails[index])))
            if needed:
                return Choice(tuple(options))
        return Choice((*options, NOTHING))


def _is_unsigned(schema: Mapping[str, JsonValue]) -> bool:
    bounds = (schema.get("minimum"), schema.get("exclusiveMinimum"))
    return any(isinstance(bound, int | float) and bound >= 0 for bound in bounds)


def _integer(schema: Mapping[str, JsonValue]) -> Node:
    """The whole numbers within a schema's bounds, spelled without leading zeros."""
    least = [math.ceil(bound) for bound in _numbers(schema, "minimum")]
    least += [math.floor(bound) + 1 for bound in _numbers(schema, "exclusiveMinimum")]
    most = [math.floor(bound) for bound in _numbers(schema, "maximum")]
    most += [math.ceil(bound) - 1 for bound in _numbers(schema, "exclusiveMaximum")]
    low, high = max((-_LARGEST_INTEGER, *least)), min((_LARGEST_INTEGER, *most))
    if not (least or most) or low > high:
        return INTEGER
    signs: list[Node] = [Series((Text("-"), _naturals(max(1, -high), -low)))] if low < 0 else []
    return Choice((*signs, _naturals(max(0, low), high))) if high >= 0 else signs[0]


def _numbers(schema: Mapping[str, JsonValue], key: str) -> list[float]:
    bound = schema.get(key)
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return []
    return [bound] if abs(bound) <= _LARGEST_INTEGER else []


def _naturals(low: int, high: int) -> Node:
    """From `low` to `high`: by the number of digits, those in between at once."""
    options: list[Node] = [] if low else [Text("0")]
    first, last = str(max(1, low)), str(high)
    if len(first) == len(last):
        options += _digits(first, last)
    else:
        options += _digits(first, "9" * len(first))
        if len(last) - len(first) > 1:
            options.append(Series((DIGIT_BUT_ZERO, Repeat(DIGIT, len(first), len(last) - 2))))
        options += _digits("1".ljust(len(last), "0"), last)
    return Choice(tuple(options))


def _digits(low: str, high: str) -> list[Node]:
    """Alternatives that make the strings of digits from `low` to `high`, which are equally long."""
    if low > high:
        return []
    rest = len(low) - 1
    if low[0] == high[0] and rest:
        return [Series((Text(low[0]), Choice(tuple(_digits(low[1:], high[1:])))))]
    # The first and the last first digit may leave less to choose for what follows.
    inner = list("0123456789")[int(low[0]) : int(high[0]) + 1]
    options: list[Node] = []
    if low[1:] != "0" * rest:
        options.append(Series((Text(inner.pop(0)), Choice(tuple(_digits(low[1:], "9" * rest))))))
    if high[1:] != "9" * rest:
        options.append(Series((Text(inner.pop()), Choice(tuple(_digits("0" * rest, high[1:]))))))
    if inner:
        after = (Repeat(DIGIT, rest, rest),) if rest else ()
        options.append(Series((_digit("".join(inner)), *after)))
    return options


def _digit(digits: str) -> Node:
    named = {"0123456789": DIGIT, "123456789": DIGIT_BUT_ZERO}
    return named.get(digits) or Choice(tuple(map(Text, digits)))


def _resolve(reference: str, root: Mapping[str, JsonValue]) -> JsonValue:
    """A local reference's schema; anything else admits every value."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    node: JsonValue = root
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node


def _array(item: Node, schema: Mapping[str, JsonValue], longest: int) -> Node:
    least = min(_bound(schema.get("minItems"), 0), _LONGEST_ARRAY)
    most = max(least, min(_bound(schema.get("maxItems"), longest), longest))
    if most == 0:
        return Text("[]")
    # One engine reads no repetition that is never made.
    rest = Repeat(Series((Text(","), item)), max(0, least - 1), most - 1) if most > 1 else NOTHING
    filled = Series((item, rest))
    return Series((Text("["), filled if least else Repeat(filled, 0, 1), Text("]")))


def _bound(value: JsonValue, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _open_object(syntax: Syntax) -> Node:
    pair = Series((syntax.any_key, Text(":"), VALUE))
    return Series((Text("{"), Repeat(Series((pair, Repeat(Series((Text(","), pair)), 0, 15))), 0, 1), Text("}")))


def _any_value(syntax: Syntax, limits: Limits | None) -> Node:
    if limits is not None:
        return Choice((syntax.bounded(0, limits.characters), NUMBER, Text("true"), Text("false"), Text("null")))
    array = Series((Text("["), Repeat(Series((VALUE, Repeat(Series((Text(","), VALUE)), 0, 15))), 0, 1), Text("]")))
    words = (Text("true"), Text("false"), Text("null"))
    return Choice((syntax.string, NUMBER, *words, array, _open_object(syntax)))
