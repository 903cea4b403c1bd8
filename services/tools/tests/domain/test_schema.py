"""Argument schemas: which are accepted, and what is said of wrong arguments."""

import json
import time
from typing import Any

import pytest
from errand_common.errors import InvalidArgument
from errand_tools.domain.schema import check_arguments, check_result, parse_parameters, parse_result_schema

ORDER = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 1, "maximum": 10},
        "price": {"type": "number"},
        "gift": {"type": "boolean"},
        "size": {"type": "string", "enum": ["small", "large"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {
            "type": "object",
            "properties": {"zip": {"type": "integer"}},
            "required": ["zip"],
        },
    },
    "required": ["count"],
}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"count": 3}, {"count": 3}),
        ({"count": "3"}, {"count": 3}),
        ({"count": " 3 "}, {"count": 3}),
        ({"count": 3.0}, {"count": 3}),
        ({"count": 1, "price": "2.5"}, {"count": 1, "price": 2.5}),
        ({"count": 1, "price": "1e3"}, {"count": 1, "price": 1000.0}),
        ({"count": 1, "price": "7"}, {"count": 1, "price": 7}),
        ({"count": 1, "gift": "true"}, {"count": 1, "gift": True}),
        ({"count": 1, "gift": "False"}, {"count": 1, "gift": False}),
        ({"count": 1, "address": {"zip": "123"}}, {"count": 1, "address": {"zip": 123}}),
        ({"count": 1, "tags": []}, {"count": 1, "tags": []}),
    ],
)
def test_safe_coercion(given: dict[str, Any], used: dict[str, Any]) -> None:
    checked, problem = check_arguments(ORDER, given)
    assert problem is None
    assert checked == used
    assert json.dumps(checked) == json.dumps(used)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "required argument 'count' is missing"),
        ({"count": 1, "colour": "red"}, "'colour' is not known; expected count, price"),
        ({"count": "three"}, "'count' is not valid"),
        ({"count": "3.5"}, "'count' is not valid"),
        ({"count": 11}, "11 is greater than the maximum of 10"),
        ({"count": True}, "'count' is not valid"),
        ({"count": None}, "'count' is not valid"),
        ({"count": "9" * 30}, "'count' is not valid"),
        ({"count": 1, "tags": "one"}, "'tags' is not valid"),
        ({"count": 1, "tags": [1]}, "'tags.0' is not valid"),
        ({"count": 1, "gift": "yes"}, "'gift' is not valid"),
        ({"count": 1, "gift": 1}, "'gift' is not valid"),
        ({"count": 1, "size": "medium"}, '"small" or "large"'),
        ({"count": 1, "address": {}}, "'address' is not valid"),
        ({"count": 1, "price": "NaN"}, "'price' is not valid"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(given: dict[str, Any], words: str) -> None:
    _, problem = check_arguments(ORDER, given)
    assert problem is not None
    assert words in problem.sentence
    assert problem.sentence.endswith(".")
    assert "\n" not in problem.sentence
    assert len(problem.sentence) < 400


def test_open_objects_take_other_arguments() -> None:
    _, problem = check_arguments({"type": "object", "additionalProperties": True}, {"any": 1})
    assert problem is None


def test_deep_arguments_are_refused() -> None:
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    _, problem = check_arguments({"type": "object", "additionalProperties": True}, {"a": deep})
    assert problem is not None
    assert "nested deeper" in problem.sentence


def test_slow_patterns_take_linear_time() -> None:
    schema = parse_parameters(
        json.dumps({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}})
    )
    started = time.perf_counter()
    _, problem = check_arguments(schema, {"a": "a" * 50_000 + "b"})
    assert problem
    assert time.perf_counter() - started < 1


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def _multiplying(levels: int, times: int) -> dict[str, Any]:
    defs: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * times} for level in range(levels)
    }
    defs[f"d{levels}"] = {"type": "string"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs}


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ("not json", "json"),
        ("[" * 100_000, "json"),
        ("[]", "object"),
        ("{}", "object"),
        ('"x"', "object"),
        ({"type": "string"}, "object"),
        ({"type": "object", "properties": []}, "properties"),
        ({"type": "object", "properties": {"a b": {"type": "string"}}}, "name"),
        ({"type": "object", "properties": {"": {"type": "string"}}}, "name"),
        ({"type": "object", "properties": {"<escape>": {"type": "string"}}}, "name"),
        ({"type": "object", "properties": {"a": {"type": "nonsense"}}}, "schema"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "schema"),
        ({"type": "object", "properties": {"a": {"pattern": "a" * 600}}}, "pattern"),
        ({"type": "object", "properties": {"a": {"pattern": "(((a{100}){100}){100}){100}"}}}, "schema"),
        ({"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": "other.json#/a"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}, "ref"),
        ({"type": "object", "properties": {"a": {"$ref": 5}}}, "ref"),
        ({"type": "object", "$id": "http://x/y", "properties": {}}, "ref"),
        ({"type": "object", "properties": {"a": {"$dynamicRef": "#b"}}}, "ref"),
        ({"type": "object", "properties": {f"a{i}": {} for i in range(65)}}, "size"),
        (_nested(40), "depth"),
        (_multiplying(5, 10), "size"),
        ({"type": "object", "allOf": [{"title": "x"}] * 6_000}, "size"),
    ],
)
def test_bad_schemas_are_refused(schema: object, rule: str) -> None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    started = time.perf_counter()
    with pytest.raises(InvalidArgument, match="parameters_json") as refused:
        parse_parameters(text)
    assert refused.value.metadata == {"field": "tool.parameters_json", "rule": rule}
    assert time.perf_counter() - started < 1


def test_local_references_work() -> None:
    schema = parse_parameters(
        json.dumps(
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"type": "integer"}},
            }
        )
    )
    assert check_arguments(schema, {"a": "5"}) == ({"a": 5}, None)
    assert check_arguments(schema, {"a": "x"})[1] is not None


def test_a_property_named_like_a_keyword_is_no_keyword() -> None:
    schema = {"type": "object", "properties": {"enum": {"type": "string"}, "id": {"type": "string"}}}
    assert parse_parameters(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "schema",
    [
        "[]",
        "{",
        '{"type": 5}',
        '{"$ref": "https://evil.example/schema.json"}',
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}',
        '{"pattern": "' + "a" * 600 + '"}',
    ],
)
def test_bad_result_schemas_are_refused(schema: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_result_schema(schema)
    assert raised.value.metadata["field"] == "tool.result_schema_json"
    assert "parameters_json" not in raised.value.message


def test_a_result_is_held_to_its_schema() -> None:
    schema = parse_result_schema('{"type": "array", "items": {"type": "integer"}}')
    assert check_result(schema, [1, 2]) == ""
    assert check_result(schema, [1, "x"]).startswith("1: ")
    assert check_result(schema, None)
