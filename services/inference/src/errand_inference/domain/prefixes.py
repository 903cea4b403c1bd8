"""What agents put before every question: remembered, so that a model can read it before its first request.

Pure; the caller keeps it between two lives of the process.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.format import render_prompt
from errand_inference.domain.grammar import build_grammar
from errand_inference.domain.names import NameMap

# A longer one is rare, and reading it would hold up the start.
_MOST_CHARACTERS = 65_536
_WARM_UP = ToolDeclaration("warm_up", "Warms up.", {"type": "object", "properties": {"text": {"type": "string"}}})


@dataclass(frozen=True, slots=True)
class Prefix:
    """Instructions and tools of one agent, the tools as JSON."""

    model: str
    instructions: str
    tools_json: str

    @classmethod
    def of(cls, model: str, prompt: PromptInput) -> Prefix:
        """The part of a prompt that its agent's other prompts share."""
        tools = [{"name": t.name, "description": t.description, "parameters": t.parameters} for t in prompt.tools]
        return cls(model, prompt.instructions, json.dumps(tools, ensure_ascii=False))

    def request(self) -> EngineRequest:
        """One token after the prefix: enough to read it and to compile its grammar."""
        tools = tuple(ToolDeclaration(**tool) for tool in json.loads(self.tools_json))
        names = NameMap.of(tool.name for tool in tools)
        prompt = names.prompt(PromptInput((UserMessage("Hello"),), tools, self.instructions))
        return EngineRequest(render_prompt(prompt), 1, grammar=build_grammar(prompt.tools))


def plain_warm_up() -> EngineRequest:
    """A request of a model of which nothing is remembered."""
    return EngineRequest(
        render_prompt(PromptInput((UserMessage("Hello"),), (_WARM_UP,))), 4, grammar=build_grammar((_WARM_UP,))
    )


class SeenPrefixes:
    """The latest `most` prefixes, each until nobody has sent it for `most_days`. Days are whole ones since 1970."""

    def __init__(self, most: int, most_days: int) -> None:
        self.most, self._most_days = most, most_days
        self._last_day: OrderedDict[Prefix, int] = OrderedDict()
        self.has_changed = False

    def note(self, prefix: Prefix, today: int) -> None:
        """Remembers a prefix as the latest one; one without tools is too short to matter."""
        if (
            not self.most
            or prefix.tools_json == "[]"
            or len(prefix.instructions) + len(prefix.tools_json) > _MOST_CHARACTERS
        ):
            return
        self.has_changed = self.has_changed or self._last_day.get(prefix) != today
        self._last_day[prefix] = today
        self._last_day.move_to_end(prefix)
        if len(self._last_day) > self.most:
            self._last_day.popitem(last=False)

    def forget(self, prefix: Prefix) -> None:
        """Drops one, perhaps as it cannot be read."""
        self.has_changed = self.has_changed or prefix in self._last_day
        self._last_day.pop(prefix, None)

    def forget_old(self, today: int) -> None:
        """Drops those that nobody has sent for too long."""
        for prefix, day in list(self._last_day.items()):
            if today - day > self._most_days:
                self.forget(prefix)

    def of(self, model: str) -> Iterator[Prefix]:
        """A model's prefixes, the latest first."""
        return (prefix for prefix in reversed(list(self._last_day)) if prefix.model == model)

    def dump(self) -> list[dict[str, Any]]:
        """All of them as plain data, the oldest first."""
        self.has_changed = False
        return [{**asdict(prefix), "day": day} for prefix, day in self._last_day.items()]

    def load(self, entries: Sequence[Mapping[str, Any]], today: int) -> None:
        """Takes back what `dump` gave, but for what is too old. Raises TypeError or ValueError for anything else."""
        for entry in entries:
            fields = dict(entry)
            # A clock that was wrong must not keep one for ever.
            day = min(today, int(fields.pop("day")))
            prefix = Prefix(**fields)
            prefix.request()
            self.note(prefix, day)
        self.has_changed = False
        self.forget_old(today)
