"""The API's description: how callers say who they are, and an example of each answer."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from errand_gateway.transport.access import SECURITY_SCHEMES

Schema = Mapping[str, Any]

_JSON: Final = "application/json"
_DEEPEST: Final = 8
_ID: Final = "0190c0ffee"
# What fields of these names hold, where their schemas say no more than the type.
_TEXTS: Final[Mapping[str, str]] = {
    "answer": "17% of 2,350 is 399.5.",
    "display_name": "Ada Lovelace",
    "email": "ada@example.com",
    "filename": "handbook.pdf",
    "message": "What is 17% of 2,350?",
    "model": "agent:default",
    "name": "default",
    "next_page_token": "WyJydW5fMDE5MGMwZmZlZSJd",
    "text": "Everybody has thirty days of leave.",
    "title": "Leave",
    "url": "https://example.com/handbook.pdf",
}
_FORMATS: Final[Mapping[str, str]] = {
    "date": "2026-11-21",
    "date-time": "2026-11-21T10:30:00Z",
    "uri": "https://example.com/",
    "binary": "",
}


class GatewayApp(FastAPI):
    """An app whose description tells how callers say who they are, with an example of each answer."""

    def openapi(self) -> dict[str, Any]:
        """The description of the API."""
        if self.openapi_schema is None:
            components = super().openapi()["components"]
            components["securitySchemes"] = SECURITY_SCHEMES
            _add_examples(super().openapi()["paths"], components["schemas"])
        return super().openapi()


def _add_examples(paths: Schema, schemas: Schema) -> None:
    for operation in (operation for methods in paths.values() for operation in methods.values()):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get(_JSON)
            if status.startswith("2") and content and not {"example", "examples"} & content.keys():
                content["example"] = _Examples(schemas).of(content.get("schema", {}))


class _Examples:
    """Makes examples of schemas: what a schema gives itself, else what its fields are called."""

    def __init__(self, schemas: Schema) -> None:
        self._schemas = schemas

    def of(self, schema: Schema, name: str = "", depth: int = 0) -> Any:
        """An example; of schemas that hold themselves, as deep as is sensible."""
        if reference := schema.get("$ref"):
            found = reference.rsplit("/", 1)[1]
            return self.of(self._schemas[found], name or found.lower(), depth)
        given = schema.get("examples") or [schema[key] for key in ("example", "const", "default") if schema.get(key)]
        if given or "enum" in schema:
            return (given or schema["enum"])[0]
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.of(schema[choice][0], name, depth)
        return self._by_type(schema, name, depth + 1)

    def _by_type(self, schema: Schema, name: str, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                needed = schema.get("minItems", 0)
                return [self.of(schema.get("items", {}), name, depth)] if depth < _DEEPEST or needed else []
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema, name)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        needed = schema.get("required", ())
        wanted = {
            name: each for name, each in schema.get("properties", {}).items() if depth < _DEEPEST or name in needed
        }
        own_id = f"{schema.get('title', '').lower()}_id"
        return {name: self.of(each, own_id if name == "id" else name, depth) for name, each in wanted.items()}


def _text(schema: Schema, name: str) -> str:
    if found := _FORMATS.get(schema.get("format", "")):
        return found
    if name.endswith("_id"):
        return f"{name.removesuffix('_id')}_{_ID}"
    return _TEXTS.get(name, name or "text")
