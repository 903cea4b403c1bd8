"""Reading a document that somebody else wrote: JSON or YAML, bounded, and referring to nothing outside itself."""

import json
from collections.abc import Mapping
from typing import Any

import yaml
from errand_common.errors import InvalidArgument

from errand_tools.domain.tools import JsonObject

MAX_DEPTH = 64
MAX_NODES = 500_000
_FIELD = "document"


class _JsonLoader(yaml.CSafeLoader):
    """YAML's values as JSON has them: a date stays the text it was written as."""


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read_document(text: str) -> JsonObject:
    """The document. Raises InvalidArgument (field document) for what is broken, too deep, aliased or refers outside."""
    document = _parse(text)
    if not isinstance(document, dict):
        raise refused("must be an object", "object")
    _check(document)
    return document


def resolve_local(root: Mapping[str, Any], reference: str) -> Any:
    """What a '#/…' reference names, or None when there is nothing."""
    node: Any = root
    for raw in reference.removeprefix("#/").split("/"):
        part = raw.replace("~1", "/").replace("~0", "~")
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def refused(message: str, rule: str) -> InvalidArgument:
    """The error for a document that cannot be taken."""
    return InvalidArgument(f"document {message}", field=_FIELD, rule=rule)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise refused(f"is nested deeper than {MAX_DEPTH} levels", "depth") from None
    except ValueError:
        return _parse_yaml(text)


def _parse_yaml(text: str) -> Any:
    try:
        _check_events(text)
        return yaml.load(text, Loader=_JsonLoader)  # noqa: S506  a subclass of the safe loader
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise refused(f"is neither JSON nor YAML{line}", "syntax") from None
    except ValueError:
        raise refused("holds a value that cannot be read", "syntax") from None


def _check_events(text: str) -> None:
    """Bounds what the parser would build: it follows aliases and nests without a limit of its own."""
    depth = 0
    for event in yaml.parse(text, Loader=_JsonLoader):
        if isinstance(event, yaml.AliasEvent):
            raise refused("uses YAML aliases; write the values out or use $ref", "alias")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise refused(f"is nested deeper than {MAX_DEPTH} levels", "depth")


def _check(document: JsonObject) -> None:
    waiting: list[tuple[Any, int]] = [(document, 0)]
    nodes = 0
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise refused(f"has more than {MAX_NODES} nodes", "size")
        if depth > MAX_DEPTH:
            raise refused(f"is nested deeper than {MAX_DEPTH} levels", "depth")
        if isinstance(node, dict):
            _check_reference(node.get("$ref"))
            waiting += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list):
            waiting += [(value, depth + 1) for value in node]


def _check_reference(reference: Any) -> None:
    if isinstance(reference, str) and not reference.startswith("#/"):
        raise refused(f"refers to {reference[:200]!r}; only '#/…' inside the document is followed", "ref")
