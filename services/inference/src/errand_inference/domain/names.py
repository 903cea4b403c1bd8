"""Maps tool names to what the call format can spell (`\\w+`) and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from errand_common.errors import InvalidArgument

from errand_inference.domain.chat import Message, ModelMessage, PromptInput, ToolCall, ToolMessage

_SPELLABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class NameMap:
    """Both directions; a name that is spellable already maps to itself."""

    to_model: dict[str, str]
    from_model: dict[str, str]

    @classmethod
    def of(cls, names: Iterable[str]) -> NameMap:
        """Raises InvalidArgument when a name stands twice."""
        to_model: dict[str, str] = {}
        taken: set[str] = set()
        for name in names:
            if name in to_model:
                raise InvalidArgument(f"tools: {name!r} is declared twice; declare each tool once.", field="tools")
            spelled = _unused(spell(name), taken)
            to_model[name] = spelled
            taken.add(spelled)
        return cls(to_model, {spelled: name for name, spelled in to_model.items()})

    def prompt(self, prompt: PromptInput) -> PromptInput:
        """The prompt with every tool name as the model reads it."""
        tools = tuple(replace(tool, name=self.to_model[tool.name]) for tool in prompt.tools)
        return replace(prompt, tools=tools, messages=tuple(self._message(message) for message in prompt.messages))

    def _message(self, message: Message) -> Message:
        if isinstance(message, ToolMessage):
            return replace(message, name=self._known(message.name))
        if isinstance(message, ModelMessage):
            return replace(message, calls=tuple(replace(call, name=self._known(call.name)) for call in message.calls))
        return message

    def _known(self, name: str) -> str:
        return self.to_model.get(name, spell(name))

    def call(self, call: ToolCall) -> ToolCall:
        """The model's call under the tool's own name."""
        return replace(call, name=self.from_model.get(call.name, call.name))


def spell(name: str) -> str:
    """The nearest spellable name: other characters become "_"."""
    if _SPELLABLE.match(name):
        return name
    spelled = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return spelled if _SPELLABLE.match(spelled) else f"_{spelled}"


def _unused(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
