"""Rates a tool for a small model, which reads little and confuses what looks alike."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from errand_tools.domain.tools import Tool

_FEW_WORDS = 4
_MANY_CHARACTERS = 300
_MANY_ARGUMENTS = 5
_SAME_NAME = 0.85
_SAME_WORDS = 0.7
_VAGUE = frozenset({"call", "data", "do", "execute", "function", "get", "handle", "process", "run", "test", "tool"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to change; `weight` is what it takes from the score of 100."""

    rule: str
    argument: str
    message: str
    weight: int


@dataclass(frozen=True, slots=True)
class Rating:
    """A score from 0 to 100, and what to change, the gravest first."""

    score: int
    findings: tuple[Finding, ...]


def rate(tool: Tool, others: Iterable[Tool]) -> Rating:
    """The tool's rating among the tenant's other tools."""
    found = [*_description(tool), *_name(tool), *_arguments(tool.parameters), *_ambiguous(tool, others)]
    found.sort(key=lambda finding: -finding.weight)
    return Rating(max(0, 100 - sum(finding.weight for finding in found)), tuple(found))


def _description(tool: Tool) -> Iterator[Finding]:
    if len(_words(tool.description)) < _FEW_WORDS:
        message = "The description is too short; say what the tool does in words that users say."
        yield Finding("description_short", "", message, 30)
    if len(tool.description) > _MANY_CHARACTERS:
        message = f"The description is longer than {_MANY_CHARACTERS} characters; keep what tells when to call it."
        yield Finding("description_long", "", message, 10)


def _name(tool: Tool) -> Iterator[Finding]:
    words = _words(tool.name)
    if not words - _VAGUE or max((len(word) for word in words), default=0) < 3:
        yield Finding("name_vague", "", "The name tells nothing; name what it does, such as get_weather.", 20)


def _arguments(parameters: Mapping[str, Any]) -> Iterator[Finding]:
    properties = parameters.get("properties", {})
    if len(properties) > _MANY_ARGUMENTS:
        message = f"It has {len(properties)} arguments; {_MANY_ARGUMENTS} or fewer are filled more reliably."
        yield Finding("arguments_many", "", message, 20)
    for name, schema in properties.items():
        if isinstance(schema, Mapping):
            yield from _argument(name, schema)


def _argument(name: str, schema: Mapping[str, Any]) -> Iterator[Finding]:
    if not str(schema.get("description", "")).strip():
        yield Finding("argument_description", name, f"Describe the argument '{name}'.", 10)
    if not {"type", "enum", "const", "$ref"} & schema.keys():
        yield Finding("argument_type", name, f"Give the argument '{name}' one type.", 10)
    if schema.get("type") == "object" and schema.get("properties"):
        message = f"The argument '{name}' is an object; flat arguments are filled more reliably."
        yield Finding("argument_nested", name, message, 10)


def _ambiguous(tool: Tool, others: Iterable[Tool]) -> Iterator[Finding]:
    name, words = tool.name.lower(), _words(tool.description)
    for other in others:
        if other.name == tool.name:
            continue
        if _alike(name, other.name.lower()):
            message = f"The name is much like that of '{other.name}'; rename one of them."
            yield Finding("name_ambiguous", "", message, 15)
        elif _overlap(words, _words(other.description)) >= _SAME_WORDS:
            message = f"The description is much like that of '{other.name}'; say what sets them apart."
            yield Finding("description_ambiguous", "", message, 15)


def _alike(name: str, other: str) -> bool:
    if _words(name) == _words(other):
        return True
    matcher = SequenceMatcher(None, name, other)
    return matcher.real_quick_ratio() >= _SAME_NAME and matcher.ratio() >= _SAME_NAME


def _overlap(words: set[str], others: set[str]) -> float:
    return len(words & others) / len(words | others) if words and others else 0.0


def _words(text: str) -> set[str]:
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return {word.lower() for word in re.findall(r"[^\W_]+", parted)}
