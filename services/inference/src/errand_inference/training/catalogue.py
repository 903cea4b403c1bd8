"""Composes tools from domains: verb, object and parameters, each worded in one of many ways.

Tools are split by their object: an object is either for training or held out, so that no tool of the
evaluation (its name, its object) was ever seen in training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from errand_inference.domain.chat import JsonValue, ToolDeclaration
from errand_inference.training import values, words
from errand_inference.training.domains import DOMAINS, Domain

HELD_OUT_PERCENT = 15


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument: its schema and how a user speaks of it (`{v}` is the value)."""

    name: str
    draw: str
    description: str
    fragments: tuple[str, ...]
    members: tuple[Parameter, ...] = ()

    def schema(self) -> dict[str, JsonValue]:
        """Its JSON Schema."""
        described: dict[str, JsonValue] = {"description": self.description} if self.description else {}
        return {**described, **self._type()}

    def _type(self) -> dict[str, JsonValue]:
        kind, _, detail = self.draw.partition(":")
        if kind == "flag":
            return {"type": "boolean"}
        if kind == "enum":
            return {"type": "string", "enum": detail.split("|")}
        if kind == "list":
            return {"type": "array", "items": {"type": values.json_type(detail)}}
        if kind == "object":
            properties: dict[str, JsonValue] = {member.name: member.schema() for member in self.members}
            return {"type": "object", "properties": properties, "required": sorted(properties)}
        return {"type": values.json_type(self.draw)}


@dataclass(frozen=True, slots=True)
class Tool:
    """A composed tool and how it is asked for."""

    name: str
    description: str
    verb: str
    subject: str
    domain: str
    parameters: tuple[Parameter, ...]
    required: frozenset[str]

    def declaration(self) -> ToolDeclaration:
        """What the model is told of it."""
        schema: Mapping[str, JsonValue] = {
            "type": "object",
            "properties": {parameter.name: parameter.schema() for parameter in self.parameters},
            "required": sorted(self.required),
        }
        return ToolDeclaration(self.name, self.description, schema)


def is_held_out(subject: str) -> bool:
    """Whether tools on this object belong to the evaluation. The same in every process."""
    return zlib.crc32(subject.encode()) % 100 < HELD_OUT_PERCENT


_DESCRIPTIONS = (
    "{verb} {a} {subject}",
    "{verb} {a} {subject} for the user",
    "{verb} the {subject}",
    "Use this to {low} {a} {subject}",
    "{verb}s {a} {subject}",
    "Tool to {low} {a} {subject}",
    "{verb} {a} {subject} with the given details",
)


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


class Catalogue:
    """Draws tools of one side of the split."""

    def __init__(self, *, held_out: bool) -> None:
        self._held_out = held_out
        self._choices = [
            (domain, subject)
            for domain in DOMAINS
            for subject in domain.objects
            if is_held_out(f"{domain.name} {subject}") == held_out
        ]

    def names(self) -> set[tuple[str, str]]:
        """Every (verb, object) this side can draw."""
        return {(verb, subject) for domain, subject in self._choices for verb in domain.verbs}

    def draw(self, rng: random.Random, *, domain: str | None = None) -> Tool:
        """A tool; of the named domain where this side has an object of it."""
        choices = [choice for choice in self._choices if choice[0].name == domain] if domain else []
        field, subject = rng.choice(choices or self._choices)
        verb = rng.choice(field.verbs)
        parameters = _draw_parameters(rng, field)
        required = frozenset(
            parameter.name for index, parameter in enumerate(parameters) if index == 0 or rng.random() < 0.5
        )
        return Tool(
            _tool_name(rng, verb, subject),
            _description(rng, verb, subject),
            verb,
            subject,
            field.name,
            parameters,
            required,
        )

    def draw_set(self, rng: random.Random, size: int) -> list[Tool]:
        """Tools of different names and different (verb, object), often of neighbouring meaning."""
        tools: dict[str, Tool] = {}
        spoken: set[tuple[str, str]] = set()
        near = rng.choice(self._choices)[0].name if rng.random() < 0.5 else None
        for _ in range(size * 6):
            tool = self.draw(rng, domain=near if rng.random() < 0.4 else None)
            if tool.name not in tools and (tool.verb, tool.subject) not in spoken:
                tools[tool.name] = tool
                spoken.add((tool.verb, tool.subject))
            if len(tools) == size:
                break
        return list(tools.values())


def _draw_parameters(rng: random.Random, domain: Domain) -> tuple[Parameter, ...]:
    specs = [_parse(spec) for spec in domain.parameters]
    picked = rng.sample(specs, rng.choice((1, 2, 2, 3, 3, 4))) if len(specs) >= 4 else specs
    if rng.random() < 0.25:
        picked.append(_labelled(rng))
    if rng.random() < 0.06:
        picked.append(_nested(rng))
    worded = [_reworded(rng, parameter) for parameter in picked]
    unique = {parameter.name: parameter for parameter in worded}
    return tuple(unique.values())


def _parse(spec: str) -> Parameter:
    name, draw, description, *fragments = spec.split("/")
    return Parameter(name, draw, description, tuple(fragments))


def _labelled(rng: random.Random) -> Parameter:
    """A parameter of any name, spoken of by that name: what makes unseen tools usable."""
    label = (
        rng.choice(words.ADJECTIVES) + " " + rng.choice(words.NOUNS) if rng.random() < 0.5 else rng.choice(words.NOUNS)
    )
    if rng.random() < 0.3:
        label = values.word(rng)
    draw = rng.choice(("phrase", "code", "count", "amount", "person", "date", "time", "email", "title"))
    fragments = (
        f"with {label} {{v}}",
        f"{label} {{v}}",
        f"{label}: {{v}}",
        f"the {label} is {{v}}",
        f"set {label} to {{v}}",
    )
    return Parameter(label.replace(" ", "_"), draw, f"The {label}", fragments)


def _nested(rng: random.Random) -> Parameter:
    """An object parameter with two or three plain members, spoken of member by member."""
    label = rng.choice(("address", "contact", "options", "location", "details", "owner"))
    pool = (
        Parameter("street", "title", "The street", ()),
        Parameter("city", "city", "The city", ()),
        Parameter("code", "code", "The code", ()),
        Parameter("name", "person", "The name", ()),
        Parameter("email", "email", "The address", ()),
        Parameter("count", "count", "How many", ()),
    )
    members = tuple(rng.sample(pool, rng.randint(2, 3)))
    return Parameter(label, "object", f"The {label}", (f"with {label} {{v}}", f"{label}: {{v}}"), members)


def _reworded(rng: random.Random, parameter: Parameter) -> Parameter:
    name = camel(parameter.name) if rng.random() < 0.15 else parameter.name
    description = parameter.description
    style = rng.random()
    if style < 0.15:
        description = ""
    elif style < 0.3:
        description = description.lower()
    return Parameter(name, parameter.draw, description, parameter.fragments, parameter.members)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _tool_name(rng: random.Random, verb: str, subject: str) -> str:
    words_of_verb, words_of_subject = (
        verb.replace(" ", "_"),
        subject.replace(" ", "_").replace("-", "_"),
    )
    snake = f"{words_of_verb}_{words_of_subject}"
    style = rng.random()
    if style < 0.72:
        return snake
    return camel(snake) if style < 0.87 else f"{words_of_subject}_{words_of_verb}"


def _description(rng: random.Random, verb: str, subject: str) -> str:
    text = rng.choice(_DESCRIPTIONS).format(verb=verb.capitalize(), low=verb, subject=subject, a=article(subject))
    return text + ("." if rng.random() < 0.7 else "")
