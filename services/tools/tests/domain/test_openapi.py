"""OpenAPI documents: what becomes a tool, what does not, and what is refused."""

import json
from typing import Any

import pytest
from errand_common.errors import InvalidArgument
from errand_tools.domain.documents import read_document
from errand_tools.domain.openapi import ImportOptions, Operations, read_operations
from errand_tools.domain.templates import build_call
from errand_tools.domain.tools import SideEffect, Tool, ToolPolicy

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "https://{region}.pets.example/v1/", "variables": {"region": {"default": "eu"}}}],
    "paths": {
        "/pets/{petId}": {
            "parameters": [{"$ref": "#/components/parameters/PetId"}],
            "get": {"operationId": "getPet", "summary": "Find a pet", "description": "By its number."},
            "put": {
                "operationId": "update pet!",
                "parameters": [{"name": "notify", "in": "query", "schema": {"type": "boolean"}}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json; charset=utf-8": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            },
        },
        "/pets": {
            "get": {
                "parameters": [
                    {"name": "limit", "in": "query", "description": "How many", "schema": {"type": "integer"}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ]
            }
        },
    },
    "components": {
        "parameters": {"PetId": {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}},
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string", "example": "Rex", "nullable": True},
                    "age": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "x-unit": "years"},
                },
            }
        },
    },
}


def read(document: Any, **options: Any) -> Operations:
    text = document if isinstance(document, str) else json.dumps(document)
    return read_operations(read_document(text), ImportOptions(**options))


def one(operation: dict[str, Any], *, method: str = "post", version: str = "3.1.0", **more: Any) -> Operations:
    paths = {"/x": {method: {"operationId": "x", **operation}}}
    return read({"openapi": version, "servers": [{"url": "https://a.example"}], "paths": paths, **more})


def body(schema: Any, **more: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}, **more}}


@pytest.fixture
def pets() -> dict[str, Tool]:
    return {tool.name: tool for tool in read(PETS, name_prefix="shop.").tools}


def test_each_operation_is_a_tool(pets: dict[str, Tool]) -> None:
    assert list(pets) == ["shop.getPet", "shop.update_pet", "shop.get_pets"]
    found = pets["shop.getPet"]
    assert found.description == "Find a pet. By its number."
    assert (found.side_effect, found.policy) == (SideEffect.NONE, ToolPolicy.AUTO)
    assert found.http is not None
    assert found.http.url_template == "https://eu.pets.example/v1/pets/{petId}"
    assert found.parameters["required"] == ["petId"]
    assert pets["shop.get_pets"].parameters["properties"] == {"limit": {"type": "integer", "description": "How many"}}
    assert pets["shop.get_pets"].description == "GET /pets"


def test_what_changes_something_asks_first(pets: dict[str, Tool]) -> None:
    assert (pets["shop.update_pet"].side_effect, pets["shop.update_pet"].policy) == (SideEffect.ASK, ToolPolicy.ASK)


def test_a_flat_body_joins_the_other_arguments(pets: dict[str, Tool]) -> None:
    tool = pets["shop.update_pet"]
    assert tool.parameters["required"] == ["petId", "name"]
    assert tool.parameters["properties"] == {
        "petId": {"type": "integer"},
        "notify": {"type": "boolean"},
        "name": {"type": ["string", "null"]},
        "age": {"type": "number", "exclusiveMinimum": 0},
    }
    assert tool.http is not None
    call = build_call(tool.http, {"petId": 7, "notify": True, "name": "Rex", "age": 2})
    assert (call.method, call.url) == ("PUT", "https://eu.pets.example/v1/pets/7?notify=true")
    assert call.body == {"name": "Rex", "age": 2}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"oneOf": [{"type": "object"}, {"type": "null"}]},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {"has space": {"type": "string"}}},
    ],
)
def test_another_body_is_one_argument(schema: Any) -> None:
    [tool] = one(body(schema)).tools
    assert tool.http is not None
    assert tool.http.body_argument == "body"
    assert build_call(tool.http, {"body": ["a"]}).body == ["a"]


def test_yaml_is_read_as_json_would_be() -> None:
    text = "openapi: 3.1.0\nservers: [{url: https://a.example}]\npaths:\n  /x:\n    get: {summary: 2026-01-01}\n"
    assert read(text).tools[0].description == "2026-01-01."


@pytest.mark.parametrize(
    ("operation", "method", "reason"),
    [
        (
            {"parameters": [{"name": "K", "in": "header", "required": True, "schema": {}}]},
            "get",
            "header parameter 'K'",
        ),
        ({"parameters": [{"name": "c", "in": "cookie", "required": True, "schema": {}}]}, "get", "cookie parameter"),
        ({"parameters": [{"name": "f[x]", "in": "query", "required": True, "schema": {}}]}, "get", "cannot be sent"),
        (
            {"parameters": [{"name": "f", "in": "query", "required": True, "style": "deepObject", "schema": {}}]},
            "get",
            "cannot be sent",
        ),
        ({"parameters": [{"$ref": "#/components/parameters/None"}]}, "get", "cannot be read"),
        ({"parameters": ["text"]}, "get", "cannot be read"),
        ({"requestBody": {"required": True, "content": {"text/csv": {}}}}, "post", "not JSON"),
        (body({"$ref": "#/components/schemas/None"}), "post", "not there"),
        (body({"$ref": "#/components/schemas/Tree"}), "post", "refers to itself"),
        (body({"$ref": "#/components/schemas/Bomb9"}), "post", "too large or too deep"),
        (body({"type": "object", "properties": {f"a{n}": {} for n in range(65)}}), "post", "more than 64 arguments"),
        (body({"type": "nonsense"}), "post", "not a valid JSON Schema"),
        ({}, "head", "not offered"),
    ],
)
def test_what_cannot_be_a_tool_says_why(operation: Any, method: str, reason: str) -> None:
    bomb = {f"Bomb{n}": {"anyOf": [{"$ref": f"#/components/schemas/Bomb{n - 1}"}] * 4} for n in range(1, 10)}
    tree = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Tree"}}}
    schemas = {"Bomb0": {"type": "string"}, **bomb, "Tree": tree}
    found = one(operation, method=method, components={"schemas": schemas})
    assert found.tools == []
    assert found.skipped[0].operation == f"{method.upper()} /x"
    assert reason in found.skipped[0].reason


def test_two_operations_of_one_name() -> None:
    found = read(
        {
            "openapi": "3.1.0",
            "servers": [{"url": "https://a.example"}],
            "paths": {"/a": {"get": {"operationId": "x"}}, "/b": {"get": {"operationId": "x"}}},
        }
    )
    assert (len(found.tools), found.skipped[0].operation) == (1, "GET /b")


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ("{", "syntax"),
        ("- 1", "object"),
        ("a: &x [1]\nb: *x", "alias"),
        ("[" * 100_000, "depth"),
        ("a: " + "[" * 2_000 + "]" * 2_000 + "x: 1", "depth"),
        ('{"a":' * 100 + "1" + "}" * 100, "depth"),
        ({"swagger": "2.0", "paths": {}}, "version"),
        ({"openapi": "3.2.0", "paths": {}}, "version"),
        ({"openapi": "3.1.0", "servers": [{"url": "https://a.example"}]}, "paths"),
        ({"openapi": "3.1.0", "servers": [{"url": "/v1"}], "paths": {}}, "url"),
        ({"openapi": "3.1.0", "servers": "x", "paths": {}}, "url"),
        ({"openapi": "3.1.0", "servers": [{"url": "ftp://a.example"}], "paths": {}}, "url"),
        ({"openapi": "3.1.0", "paths": {"/x": {"$ref": "http://169.254.169.254/latest"}}}, "ref"),
        ({"openapi": "3.1.0", "x": [{"$ref": "file:///etc/passwd"}]}, "ref"),
        ({"openapi": "3.1.0", "x": {"$ref": "other.yaml#/a"}}, "ref"),
        ("!!python/object/apply:os.system ['true']", "syntax"),
    ],
)
def test_wrong_documents_are_refused(document: Any, rule: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(document)
    assert refused.value.metadata["rule"] == rule


def test_there_are_at_most_so_many_operations() -> None:
    paths = {f"/{n}": {"get": {}} for n in range(501)}
    with pytest.raises(InvalidArgument, match="500"):
        read({"openapi": "3.1.0", "servers": [{"url": "https://a.example"}], "paths": paths})
