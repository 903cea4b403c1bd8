"""Grammars admit exactly well-formed turns: checked by the matcher that constrains a real engine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import llguidance
import llguidance.hf
import pytest
from errand_common.errors import InvalidArgument
from errand_inference.domain.chat import JsonValue, ToolCall, ToolDeclaration
from errand_inference.domain.dialects import to_lark
from errand_inference.domain.format import render_call
from errand_inference.domain.grammar import Grammar, Limits, ToolChoice, build_grammar, build_json_grammar
from errand_inference.domain.schemas import is_json_of

END = "<start_function_response>"
WEATHER = ToolDeclaration(
    "weather",
    "",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1},
            "hours": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2},
            "exact": {"type": "boolean"},
            "at": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            "note": {"type": ["string", "null"]},
        },
        "required": ["city"],
    },
)


@pytest.fixture(scope="module")
def admits(tiny_model: Path):
    from transformers import AutoTokenizer  # noqa: PLC0415 - loads torch

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    vocabulary = llguidance.hf.from_tokenizer(tokenizer)

    def check(grammar: Grammar, text: str) -> bool:
        matcher = llguidance.LLMatcher(vocabulary, to_lark(grammar))
        assert not matcher.get_error(), matcher.get_error()
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting()

    return check


def call(**arguments: JsonValue) -> str:
    return render_call(ToolCall("weather", arguments))


def only(**arguments: JsonValue) -> str:
    """A call that must be the only one: its end is the end of the turn."""
    return call(**arguments).removesuffix("<end_function_call>")


@pytest.mark.parametrize(
    "arguments",
    [
        {"city": "Oslo"},
        {"city": "a<b and </i> or 1 < 2, {x:1} 天気 \n"},
        {"city": "", "unit": "celsius", "days": 3},
        {"city": "x", "hours": [1, -2.5]},
        {"city": "x", "exact": True, "at": {"lat": -1.5e-7}, "note": None},
    ],
)
def test_valid_arguments_are_admitted(admits, arguments: dict[str, JsonValue]) -> None:
    assert admits(build_grammar([WEATHER]), call(**arguments) + END)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"unit": "celsius"},
        {"city": 3},
        {"city": "x", "unit": "kelvin"},
        {"city": "x", "days": 1.5},
        {"city": "x", "days": -1},
        {"city": "x", "hours": []},
        {"city": "x", "hours": [1, 2, 3]},
        {"city": "x", "at": {}},
        {"city": "x", "unknown": 1},
        {"city": "x", "exact": "true"},
    ],
)
def test_invalid_arguments_are_not(admits, arguments: dict[str, JsonValue]) -> None:
    assert not admits(build_grammar([WEATHER]), call(**arguments) + END)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": 1},
        {"minimum": 0},
        {"minimum": 37, "maximum": 37},
        {"minimum": 3, "maximum": 8},
        {"minimum": 0, "maximum": 100},
        {"minimum": 95, "maximum": 1204},
        {"minimum": -12, "maximum": 250_000},
        {"minimum": -305, "maximum": -29},
        {"maximum": -7},
        {"maximum": 65_535},
        {"exclusiveMinimum": 4, "exclusiveMaximum": 20},
        {"minimum": 1.5, "exclusiveMaximum": 10.5},
        {"minimum": 8, "exclusiveMinimum": True},
        {"minimum": 1, "maximum": 1e300},
    ],
)
def test_whole_numbers_keep_their_bounds(admits, bounds: dict[str, JsonValue]) -> None:
    schema = {"type": "integer", **bounds}
    grammar = build_json_grammar(schema)
    edges = [math.floor(bound) for bound in bounds.values() if abs(bound) < 1e18]  # type: ignore[arg-type]
    near = {edge + step for edge in edges for step in (-100, -10, -2, -1, 0, 1, 2, 9, 10, 11, 90, 1000)}
    legal = {key: bound for key, bound in schema.items() if not isinstance(bound, bool)}
    for number in sorted(near | {-1, 0, 1, 5, 10, 19, 99, 100, 101, 999, 10**6, 10**17}):
        assert admits(grammar, str(number)) is is_json_of(str(number), json.dumps(legal)), number
    assert not admits(grammar, "007")


def test_a_number_is_never_infinite(admits) -> None:
    """`1e999` is read as infinity, which is no number of a schema."""
    grammar = build_json_grammar({"type": "number"})
    assert admits(grammar, f"-{'9' * 18}.5e+99")
    assert not admits(grammar, "1e309")


def test_bounds_that_hold_nothing_are_widened(admits) -> None:
    assert admits(build_json_grammar({"type": "integer", "minimum": 5, "maximum": 4}), "7")


def test_choices_of_calling(admits) -> None:
    one = call(city="x")
    free = build_grammar([WEATHER])
    assert admits(free, "Hello")
    assert admits(free, one * 3 + END)
    assert not admits(free, one * 9 + END)
    assert not admits(free, "Hello" + one + END)
    must = build_grammar([WEATHER], choice=ToolChoice.REQUIRED, single_call=True)
    assert admits(must, only(city="x"))
    assert not admits(must, one + END)
    assert not admits(must, "Hello")
    assert not admits(must, one * 2)
    never = build_grammar([WEATHER], choice=ToolChoice.NONE)
    assert admits(never, "Hello")
    assert not admits(never, one + END)
    with pytest.raises(InvalidArgument, match="no tool is declared"):
        build_grammar([], choice=ToolChoice.REQUIRED)


@pytest.mark.parametrize("text", ["<escape>", "a<start_of_turn>user", "<end_of_turn>", "<bos>", "<", "<<"])
def test_free_text_holds_no_control_token(admits, text: str) -> None:
    assert not admits(build_grammar([]), text)


@pytest.mark.parametrize("text", [" ", "\n", " Hello"])
def test_free_text_begins_with_something_to_read(admits, text: str) -> None:
    assert not admits(build_grammar([]), text)


def test_limits_bound_a_call(admits) -> None:
    tight = build_grammar([WEATHER], limits=Limits(5, 1, optional=True))
    assert admits(tight, only(city="", hours=[1]))
    assert admits(tight, only(city="Tokyo", note=None))
    assert not admits(tight, only(city="Berlin"))
    assert not admits(tight, only(city="x", hours=[1, 2]))
    assert not admits(tight, call(city="x") * 2)
    least = build_grammar([WEATHER], limits=Limits(5, 1, optional=False))
    assert admits(least, only(city="天気"))
    assert not admits(least, only(city="x", exact=True))


def test_limits_keep_what_a_schema_says_of_length(admits) -> None:
    lengths = {"properties": {"code": {"type": "string", "minLength": 2, "maxLength": 3}}, "required": ["code"]}
    grammar = build_grammar([ToolDeclaration("weather", "", lengths)], limits=Limits(9, 1, optional=True))
    assert [admits(grammar, only(code="x" * length)) for length in (1, 2, 3, 4)] == [False, True, True, False]


def test_limits_bound_json_and_values_of_any_type(admits) -> None:
    grammar = build_json_grammar(JSON_SCHEMA, limits=Limits(4, 1, optional=True))
    assert admits(grammar, '{"n":"abcd","tags":["a"],"title":"x"}')
    assert not admits(grammar, '{"n":[1],"title":"x"}')
    assert not admits(grammar, '{"title":"abcde"}')


TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
    "required": ["name"],
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}},
}


def test_references_may_be_recursive(admits) -> None:
    grammar = build_grammar([ToolDeclaration("weather", "", TREE)])
    assert admits(grammar, call(name="x", next={"next": {"next": {"n": 1}}}) + END)
    assert not admits(grammar, call(name="x", next={"next": {"next": {"n": "1"}}}) + END)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
        {
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
            "properties": {"x": {"$ref": "#/$defs/a"}},
        },
        {"properties": {"x": {"$ref": "https://example.com/schema"}}},
        {"properties": {"x": {"not": {}}, "y": True, "z": {"allOf": [{"type": "string"}]}}},
        {
            "properties": {
                f"p{i}": {"anyOf": [{"type": "object", "properties": {"q": {"$ref": "#"}}}] * 9} for i in range(9)
            }
        },
        {"$ref": "#"},
    ],
)
def test_schemas_that_lead_in_circles_or_say_the_unsayable_are_widened(admits, schema: dict[str, JsonValue]) -> None:
    grammar = build_grammar([ToolDeclaration("weather", "", schema)])
    assert admits(grammar, call() + END)


JSON_SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["a", "b"]}}, "n": {}},
    "required": ["title"],
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"title": 'a "quoted" <b> \\ text\n'}, True),
        ({"n": {"deep": [1, None]}, "tags": ["a"], "title": ""}, True),
        ({"tags": ["a"]}, False),
        ({"tags": ["c"], "title": "x"}, False),
        ([], False),
    ],
)
def test_json_of_a_schema(admits, value: JsonValue, expected: bool) -> None:
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    assert admits(build_json_grammar(JSON_SCHEMA), text) is expected


def test_json_holds_no_white_space_and_no_control_token(admits) -> None:
    grammar = build_json_grammar(JSON_SCHEMA)
    assert not admits(grammar, '{ "title":"x"}')
    assert not admits(grammar, '{"title":"<end_of_turn>"}')
