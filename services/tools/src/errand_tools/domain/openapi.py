"""Operations of an OpenAPI document (3.0, 3.1) as HTTP tools."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from errand_common.errors import InvalidArgument

from errand_tools.domain.documents import refused, resolve_local
from errand_tools.domain.openapi_schemas import Unusable, json_schema
from errand_tools.domain.schema import MAX_ARGUMENTS, parse_parameters
from errand_tools.domain.tools import HttpAuth, HttpBinding, JsonObject, SideEffect, Tool, ToolPolicy

MAX_OPERATIONS = 500
MAX_DESCRIPTION = 1_000
MAX_NAME = 64
_METHODS = ("get", "put", "post", "delete", "patch")
_OTHER_METHODS = ("options", "head", "trace")
_VERSION = re.compile(r"^3\.[01]\.\d+")
_ARGUMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
_BODY_METHODS = frozenset({"post", "put", "patch"})


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import adds to the document."""

    name_prefix: str = ""
    base_url: str = ""
    auth: HttpAuth | None = None
    side_effect: SideEffect = SideEffect.ASK
    policy: ToolPolicy = ToolPolicy.ASK


@dataclass(frozen=True, slots=True)
class Skipped:
    """An operation that is no tool, and why."""

    operation: str
    reason: str


@dataclass(slots=True)
class Operations:
    """What a document gave, in its order."""

    tools: list[Tool] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def read_operations(document: JsonObject, options: ImportOptions) -> Operations:
    """Each operation as a tool, or why it is none.

    Raises InvalidArgument for a document that is not OpenAPI 3.0 or 3.1, has no absolute server, or too many
    operations.
    """
    if not _VERSION.match(str(document.get("openapi", ""))):
        raise refused("must be OpenAPI 3.0 or 3.1; its 'openapi' field says which", "version")
    base = _base_url(document, options)
    found = Operations()
    names: set[str] = set()
    for number, (path, method, shared, operation) in enumerate(_operations(document)):
        if number >= MAX_OPERATIONS:
            raise refused(f"has more than {MAX_OPERATIONS} operations; import it in parts", "size")
        label = f"{method.upper()} {path}"[:200]
        try:
            tool = _Reader(document, base, options).tool(path, method, shared, operation)
        except Unusable as reason:
            found.skipped.append(Skipped(label, f"{reason}."))
        except InvalidArgument as error:
            found.skipped.append(Skipped(label, f"{error.message.rstrip('.')}."))
        else:
            if tool.name in names:
                found.skipped.append(Skipped(label, f"Another operation is named '{tool.name}' too."))
                continue
            names.add(tool.name)
            found.tools.append(tool)
    return found


def _base_url(document: JsonObject, options: ImportOptions) -> str:
    url = options.base_url or _server_url(document)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidArgument(
            "the document names no absolute http or https server; give base_url, such as https://api.example.com/v1",
            field="base_url",
            rule="url",
        )
    return url.rstrip("/")


def _server_url(document: JsonObject) -> str:
    servers = document.get("servers")
    server = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    variables = server.get("variables")
    url = str(server.get("url", ""))
    for name, variable in variables.items() if isinstance(variables, dict) else ():
        default = variable.get("default", "") if isinstance(variable, dict) else ""
        url = url.replace(f"{{{name}}}", str(default))
    return url


def _operations(document: JsonObject) -> Iterator[tuple[str, str, list[Any], JsonObject]]:
    paths = document.get("paths")
    if not isinstance(paths, dict):
        raise refused("has no 'paths'", "paths")
    for path, raw in paths.items():
        item = _followed(document, raw)
        if not str(path).startswith("/") or not isinstance(item, dict):
            continue
        shared = item.get("parameters")
        for method in (*_METHODS, *_OTHER_METHODS):
            if isinstance(item.get(method), dict):
                yield str(path), method, shared if isinstance(shared, list) else [], item[method]


def _followed(document: JsonObject, node: Any) -> Any:
    """The node a chain of references ends at; None for a chain that is too long."""
    for _ in range(8):
        if not (isinstance(node, Mapping) and isinstance(node.get("$ref"), str)):
            return node
        node = resolve_local(document, node["$ref"])
    return None


class _Reader:
    """One operation: its arguments, where each goes, and what must be there."""

    def __init__(self, document: JsonObject, base: str, options: ImportOptions) -> None:
        self._document = document
        self._base = base
        self._options = options
        self._is_30 = str(document["openapi"]).startswith("3.0")
        self._properties: JsonObject = {}
        self._required: list[str] = []
        self._query: list[str] = []
        self._body_argument = ""

    def tool(self, path: str, method: str, shared: list[Any], operation: JsonObject) -> Tool:
        """The operation as a tool. Raises Unusable, InvalidArgument."""
        if method not in _METHODS:
            raise Unusable(f"the method {method.upper()} is not offered")
        for parameter in self._parameters(shared, operation.get("parameters")):
            self._add_parameter(parameter)
        if "requestBody" in operation:
            self._add_body(method, _followed(self._document, operation["requestBody"]))
        changes = method != "get"
        return Tool(
            name=_name(self._options.name_prefix, path, method, operation),
            description=_description(path, method, operation),
            parameters=self._schema(),
            side_effect=self._options.side_effect if changes else SideEffect.NONE,
            policy=self._options.policy if changes else ToolPolicy.AUTO,
            http=HttpBinding(
                method.upper(),
                self._base + path,
                auth=self._options.auth,
                query_arguments=tuple(self._query) if method in _BODY_METHODS else (),
                body_argument=self._body_argument,
            ),
        )

    def _parameters(self, shared: list[Any], own: Any) -> list[JsonObject]:
        """Those of the operation win over those of its path."""
        merged: dict[tuple[Any, Any], JsonObject] = {}
        for raw in [*shared, *(own if isinstance(own, list) else [])]:
            parameter = _followed(self._document, raw)
            if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
                raise Unusable("a parameter of it cannot be read")
            merged[parameter["name"], parameter.get("in")] = parameter
        return list(merged.values())

    def _add_parameter(self, parameter: JsonObject) -> None:
        name, place = parameter["name"], parameter.get("in")
        required = parameter.get("required") is True or place == "path"
        usual = parameter.get("style", "form") in ("form", "simple") and parameter.get("explode", True)
        usable = _ARGUMENT.match(name) and "schema" in parameter and (usual or place == "path")
        if place not in ("path", "query") or not usable:
            if required:
                raise Unusable(f"its required {place} parameter '{name[:80]}' cannot be sent")
            return
        schema = self._converted(parameter["schema"])
        if isinstance(parameter.get("description"), str):
            schema.setdefault("description", parameter["description"][:MAX_DESCRIPTION])
        self._add(name, schema, required=required)
        if place == "query":
            self._query.append(name)

    def _add_body(self, method: str, body: Any) -> None:
        content = body.get("content") if isinstance(body, dict) else None
        media = _json_media(content) if isinstance(content, dict) else None
        required = isinstance(body, dict) and body.get("required") is True
        if media is None or method not in _BODY_METHODS:
            if required:
                raise Unusable("its body is not JSON")
            return
        schema = self._converted(media.get("schema", {}))
        if self._can_be_flat(schema):
            needed = schema.get("required", []) if required else []
            for name, part in schema["properties"].items():
                self._add(name, part, required=name in needed)
            return
        self._body_argument = "body" if "body" not in self._properties else "request_body"
        self._add(self._body_argument, schema, required=required)

    def _can_be_flat(self, schema: JsonObject) -> bool:
        """Small models fill flat arguments better; a body with other rules keeps its shape."""
        properties = schema.get("properties")
        plain = set(schema) <= {"type", "properties", "required", "description", "title", "additionalProperties"}
        closed = not schema.get("additionalProperties", False)
        if not (plain and closed and isinstance(properties, dict) and properties):
            return False
        return all(_ARGUMENT.match(name) and name not in self._properties for name in properties)

    def _add(self, name: str, schema: JsonObject, *, required: bool) -> None:
        if name in self._properties:
            raise Unusable(f"two of its parameters are named '{name}'")
        self._properties[name] = schema
        if required:
            self._required.append(name)

    def _converted(self, schema: Any) -> JsonObject:
        return json_schema(self._document, schema, is_30=self._is_30)

    def _schema(self) -> JsonObject:
        if len(self._properties) > MAX_ARGUMENTS:
            raise Unusable(f"it has more than {MAX_ARGUMENTS} arguments")
        schema = {
            "type": "object",
            "properties": self._properties,
            "required": self._required,
            "additionalProperties": False,
        }
        return parse_parameters(json.dumps(schema))


def _json_media(content: JsonObject) -> JsonObject | None:
    for kind, media in content.items():
        bare = str(kind).split(";")[0].strip().lower()
        if (bare == "application/json" or bare.endswith("+json")) and isinstance(media, dict):
            return media
    return None


def _name(prefix: str, path: str, method: str, operation: JsonObject) -> str:
    given = operation.get("operationId")
    raw = given if isinstance(given, str) and given else f"{method}_{path}"
    clean = re.sub(r"[^A-Za-z0-9-]+", "_", raw).strip("_") or method
    return f"{prefix}{clean}"[: len(prefix) + MAX_NAME]


def _description(path: str, method: str, operation: JsonObject) -> str:
    texts = [operation.get("summary"), operation.get("description")]
    told = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
    if len(told) == 2 and told[1].startswith(told[0].rstrip(".")):
        told = told[1:]
    joined = " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in told)
    return joined[:MAX_DESCRIPTION] or f"{method.upper()} {path}"[:MAX_DESCRIPTION]
