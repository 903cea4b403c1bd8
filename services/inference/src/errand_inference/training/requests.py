"""Words a request for a tool as a user would, together with the exact call it asks for."""

from __future__ import annotations

import random
from dataclasses import dataclass

from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.training import values
from errand_inference.training.catalogue import Parameter, Tool, article

_OPENERS = (
    "{ask}",
    "{ask}",
    "{ask}",
    "please {ask}",
    "can you {ask}",
    "could you {ask}",
    "I want to {ask}",
    "I need to {ask}",
    "I'd like to {ask}",
    "help me {ask}",
    "I would like you to {ask}",
    "let's {ask}",
    "would you {ask}",
    "hey, {ask}",
    "hi, could you {ask}",
    "now {ask}",
)
_SYNONYMS = {
    "find": ("look for", "search for"),
    "get": ("give me", "tell me"),
    "show": ("show me", "display"),
    "check": ("look up",),
    "cancel": ("call off",),
    "create": ("make", "set up"),
    "delete": ("remove", "get rid of"),
    "send": ("send off",),
    "book": ("reserve",),
    "schedule": ("set up",),
    "update": ("modify",),
    "add": ("put in",),
    "start": ("begin",),
    "log": ("record",),
    "track": ("follow",),
    "share": ("pass on",),
}
_ENDINGS = ("", "", "", "", ".", ".", " please", ", please.", ", thanks", ". Thank you!")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user says and the call that answers it."""

    text: str
    call: ToolCall


def draw_request(rng: random.Random, tool: Tool, *, avoid_synonyms: bool = False) -> Request:
    """A whole request for the tool, its optional arguments given or left out."""
    clause, arguments = draw_clause(rng, tool, avoid_synonyms=avoid_synonyms)
    text = rng.choice(_OPENERS).format(ask=clause)
    return Request(finish(rng, text), ToolCall(tool.name, arguments))


def finish(rng: random.Random, text: str) -> str:
    """Capital, ending and the carelessness of typing."""
    style = rng.random()
    text = text if style < 0.25 else text[0].upper() + text[1:]
    question = text.lower().startswith(("can you", "could you", "would you", "hi, could"))
    return text + ("?" if question and rng.random() < 0.7 else rng.choice(_ENDINGS))


def draw_clause(rng: random.Random, tool: Tool, *, avoid_synonyms: bool = False) -> tuple[str, dict[str, JsonValue]]:
    """An imperative clause without opener and ending, and the arguments it names."""
    given = [p for p in tool.parameters if p.name in tool.required or rng.random() < 0.5]
    rng.shuffle(given)
    said: list[str] = []
    arguments: dict[str, JsonValue] = {}
    for parameter in given:
        fragment, value = _say(rng, parameter)
        said.append(fragment)
        arguments[parameter.name] = value
    verb = tool.verb
    if not avoid_synonyms and rng.random() < 0.25:
        verb = rng.choice(_SYNONYMS.get(verb, (verb,)))
    determiner = rng.choice((article(tool.subject), article(tool.subject), "the", "my"))
    return " ".join((verb, determiner, tool.subject, *_joined(rng, said))), arguments


def _joined(rng: random.Random, fragments: list[str]) -> list[str]:
    """Fragments one after the other, sometimes set apart by a comma or "and"."""
    if len(fragments) > 1 and rng.random() < 0.25:
        return [
            *[f"{fragment}," for fragment in fragments[:-2]],
            fragments[-2],
            "and",
            fragments[-1],
        ]
    if len(fragments) > 1 and rng.random() < 0.25:
        return [*[f"{fragment}," for fragment in fragments[:-1]], fragments[-1]]
    return fragments


def _say(rng: random.Random, parameter: Parameter) -> tuple[str, JsonValue]:
    kind, _, detail = parameter.draw.partition(":")
    if kind == "flag":
        value = rng.random() < 0.5
        return parameter.fragments[0 if value else 1], value
    spoken, drawn = _draw_value(rng, parameter, kind, detail)
    return rng.choice(parameter.fragments).replace("{v}", spoken), drawn


def _draw_value(rng: random.Random, parameter: Parameter, kind: str, detail: str) -> tuple[str, JsonValue]:
    if kind == "enum":
        option = rng.choice(detail.split("|"))
        return option, option
    if kind == "list":
        items = [values.DRAWS[detail](rng) for _ in range(rng.randint(1, 3))]
        return spoken_list([str(item) for item in items]), list(items)
    if kind == "object":
        members = {member.name: values.DRAWS[member.draw](rng) for member in parameter.members}
        return ", ".join(f"{name} {value}" for name, value in members.items()), dict(members)
    value = values.DRAWS[parameter.draw](rng)
    return str(value), value


def spoken_list(items: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
