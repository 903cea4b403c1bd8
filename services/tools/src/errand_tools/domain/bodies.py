"""Body templates of HTTP tools: JSON in whose texts {name} stands for an argument."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from errand_common.errors import InvalidArgument

from errand_tools.domain.tools import JsonObject

_FIELD = "tool.http.body_template_json"
# A brace that is followed by anything else stands for itself, as in a query of GraphQL.
_PLACE = re.compile(r"\{([A-Za-z_][\w.-]*)\}", re.ASCII)
_MAX_DEPTH = 16
_LEFT_OUT = object()


def check_body(template_json: str, parameters: Mapping[str, Any]) -> frozenset[str]:
    """The arguments that the template names. Raises InvalidArgument for one that is none, and for what is no JSON."""
    try:
        template = json.loads(template_json, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidArgument("body_template_json is not JSON", field=_FIELD, rule="json") from None
    if not isinstance(template, dict | list):
        raise InvalidArgument("body_template_json must be an object or an array", field=_FIELD, rule="type")
    names = frozenset(name for text in _texts(template, 0) for name in _PLACE.findall(text))
    for name in sorted(names - parameters.get("properties", {}).keys()):
        raise InvalidArgument(
            f"body_template_json names {{{name}}}, which is no argument of the tool", field=_FIELD, rule="argument"
        )
    return names


def fill_body(template_json: str, arguments: JsonObject) -> Any:
    """The body. A text that is {name} alone becomes the value as it is, and goes with an argument that was left out."""
    return _filled(json.loads(template_json), arguments)


def _no_number(name: str) -> Any:
    # NaN and its like are Python's, and no JSON.
    raise ValueError(name)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise InvalidArgument(f"body_template_json is deeper than {_MAX_DEPTH}", field=_FIELD, rule="depth")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        if any(_PLACE.search(name) for name in value):
            raise InvalidArgument("body_template_json must not take a name from an argument", field=_FIELD, rule="name")
        for item in value.values():
            yield from _texts(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)


def _filled(value: Any, arguments: JsonObject) -> Any:
    if isinstance(value, str):
        if alone := _PLACE.fullmatch(value):
            return arguments.get(alone[1], _LEFT_OUT)
        return _PLACE.sub(lambda match: _text(arguments.get(match[1])), value)
    if isinstance(value, dict):
        filled = {name: _filled(item, arguments) for name, item in value.items()}
        return {name: item for name, item in filled.items() if item is not _LEFT_OUT}
    if isinstance(value, list):
        return [item for item in (_filled(one, arguments) for one in value) if item is not _LEFT_OUT]
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
