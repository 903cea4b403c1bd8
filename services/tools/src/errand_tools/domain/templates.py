"""URL templates of HTTP tools: {name} stands for an argument, and can only be one path segment."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from errand_common.errors import InvalidArgument

from errand_tools.domain.bodies import check_body, fill_body
from errand_tools.domain.tools import HttpBinding, JsonObject, ToolFailed

_FIELD = "tool.http.url_template"
_PLACE = re.compile(r"\{([^{}]*)\}")
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
MAX_VALUE_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request as it goes out."""

    method: str
    url: str
    body: Any


def check_template(template: str, parameters: Mapping[str, Any]) -> None:
    """Raises InvalidArgument (field tool.http.url_template) for a template that could be misled."""
    if "\\" in template or "#" in template or any(ord(char) <= 32 for char in template):
        raise _refused("must hold no fragment, backslash or space", "characters")
    authority = template.partition("://")[2].partition("/")[0].partition("?")[0]
    if "{" in authority or "}" in authority:
        raise _refused("must not take its host from an argument", "host")
    if "@" in authority:
        raise _refused("must not hold credentials", "credentials")
    path = _checked_path(template)
    if _has_dot_segment(path):
        raise _refused("must hold no '.' or '..' segments", "path")
    _check_places(template, path, parameters)


def _checked_path(template: str) -> str:
    try:
        parts = urlsplit(template)
        port = parts.port
    except ValueError as error:
        raise _refused(f"is not a URL: {error}", "url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _refused("must be an absolute http or https URL", "url")
    return parts.path


def build_call(binding: HttpBinding, arguments: JsonObject) -> HttpCall:
    """Fills the template; what it does not name goes to the query (GET, DELETE) or the JSON body.

    Raises ToolFailed when an argument cannot stand in a URL.
    """
    used: set[str] = set()

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        used.add(name)
        return _encode(name, arguments.get(name))

    url = _PLACE.sub(fill, binding.url_template)
    if _has_dot_segment(urlsplit(url).path):
        raise ToolFailed("The arguments make a path with '.' or '..' segments.")
    rest = {name: value for name, value in arguments.items() if name not in used}
    if binding.method not in _BODY_METHODS:
        return HttpCall(binding.method, _with_query(url, rest), None)
    query = {name: rest.pop(name) for name in binding.query_arguments if name in rest}
    body = rest.get(binding.body_argument) if binding.body_argument else rest
    if binding.body_template:
        body = fill_body(binding.body_template, arguments)
    return HttpCall(binding.method, _with_query(url, query), body)


def check_binding(binding: HttpBinding, parameters: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for a template that could be misled, or a place that no argument fills."""
    check_template(binding.url_template, parameters)
    places = {"query_arguments": binding.query_arguments, "body_argument": (binding.body_argument,)}
    for field, names in places.items():
        for name in filter(None, names):
            if name not in parameters.get("properties", {}):
                raise InvalidArgument(f"{field} names '{name}', which is no argument", field=f"tool.http.{field}")
    if binding.body_template:
        _check_body_template(binding, parameters)


def _check_body_template(binding: HttpBinding, parameters: Mapping[str, Any]) -> None:
    field = "tool.http.body_template_json"
    named = check_body(binding.body_template, parameters)
    if binding.method not in _BODY_METHODS or binding.body_argument:
        raise InvalidArgument(
            "body_template_json is for POST, PUT and PATCH, and not beside body_argument", field=field, rule="unused"
        )
    sent = named.union(binding.query_arguments, _PLACE.findall(binding.url_template))
    for name in parameters.get("properties", {}):
        if name not in sent:
            raise InvalidArgument(
                f"the argument '{name}' goes nowhere: name it in body_template_json", field=field, rule="argument"
            )


def _refused(message: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"url_template {message}", field=_FIELD, rule=rule)


def _has_dot_segment(path: str) -> bool:
    decoded = path.lower().replace("%2e", ".")
    return any(segment in (".", "..") for segment in decoded.split("/"))


def _check_places(template: str, path: str, parameters: Mapping[str, Any]) -> None:
    properties = parameters.get("properties", {})
    required = parameters.get("required", [])
    for name in _PLACE.findall(template):
        if name not in properties:
            raise _refused(f"names {{{name}}}, which is no argument of the tool", "argument")
        if f"{{{name}}}" in path and name not in required:
            raise _refused(f"names {{{name}}} in its path: make that argument required", "required")
    if re.search(r"[{}]", _PLACE.sub("", template)):
        raise _refused("has a brace without its partner", "braces")


def _encode(name: str, value: Any) -> str:
    text = _text(value)
    if len(text) > MAX_VALUE_CHARACTERS:
        raise ToolFailed(f"The argument '{name}' is too long for a URL.")
    # A dot segment would climb out of the template's path; browsers and servers fold the encoded
    # forms too, so encoding it is not enough.
    if text in (".", "..") or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ToolFailed(f"The argument '{name}' has a value that cannot stand in a URL.")
    return quote(text, safe="")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _with_query(url: str, arguments: JsonObject) -> str:
    pairs = []
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        pairs += [(name, _text(item)) for item in values if item is not None]
    if not pairs:
        return url
    joint = "&" if urlsplit(url).query else "?"
    return f"{url}{joint}{urlencode(pairs)}"
