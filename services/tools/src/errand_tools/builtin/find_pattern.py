"""Regular expressions in linear time: RE2 has no pattern that runs away."""

from typing import Any

import re2  # type: ignore[import-untyped]  # ships no types

from errand_tools.builtin.base import BuiltinTool, computed
from errand_tools.domain.tools import JsonObject, ToolFailed

MAX_TEXT_CHARACTERS = 200_000
MAX_PATTERN_CHARACTERS = 1_000
MAX_MATCHES = 100
_MAX_MEMORY_BYTES = 8 * 1024 * 1024


def find(pattern: str, text: str) -> JsonObject:
    """The first matches with their places and groups. Raises ToolFailed with one sentence for the model."""
    if len(text) > MAX_TEXT_CHARACTERS or len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ToolFailed(
            f"The text may have {MAX_TEXT_CHARACTERS} characters and the pattern {MAX_PATTERN_CHARACTERS}; send less."
        )
    matches: list[JsonObject] = []
    for match in _compiled(pattern).finditer(text):
        if len(matches) == MAX_MATCHES:
            return {"matches": matches, "note": f"only the first {MAX_MATCHES} matches"}
        matches.append(_shown(match))
    return {"matches": matches}


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        told = error.args[0] if error.args else ""
        told = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        raise ToolFailed(
            f"The pattern cannot be used: {told[:200].rstrip('.')}; lookarounds and back-references are not offered."
        ) from None


def _shown(match: Any) -> JsonObject:
    shown: JsonObject = {"text": match.group(0), "start": match.start()}
    if match.groups():
        shown["groups"] = list(match.groups())
    return shown


def _run(arguments: JsonObject) -> JsonObject:
    return find(arguments["pattern"], arguments["text"])


TOOL = BuiltinTool(
    name="find_pattern",
    description=(
        "Find, match or extract text with a regular expression (regex): e-mail addresses, numbers, codes, dates."
    ),
    parameters={
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "description": "The regular expression", "examples": ["[0-9]+"]},
            "text": {"type": "string", "description": "The text to search", "examples": ["Order 66 of 1999"]},
        },
        "required": ["pattern", "text"],
        "additionalProperties": False,
    },
    build=computed(_run, inline_characters=500),
    timeout_ms=5_000,
)
