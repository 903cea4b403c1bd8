"""What a built-in tool is made of."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from errand_tools.domain.ports import CodeSandbox, KnowledgeBase, Runner, WebFetcher
from errand_tools.domain.tools import (
    CallContext,
    JsonObject,
    SideEffect,
    Tool,
    ToolKind,
    schema_hash,
)


@dataclass(frozen=True, slots=True)
class Services:
    """What built-in tools may use of the process they run in."""

    threads: Executor
    knowledge: KnowledgeBase
    web: WebFetcher
    sandbox: CodeSandbox


@dataclass(frozen=True, slots=True)
class BuiltinTool:
    """A tool that comes with Errand; `build` makes its runner once per process."""

    name: str
    description: str
    parameters: JsonObject
    build: Callable[[Services], Runner]
    timeout_ms: int = 10_000

    def as_tool(self) -> Tool:
        """The tool as tenants see it. Built-in tools change nothing in the world."""
        return Tool(
            name=self.name,
            description=self.description,
            parameters=self.parameters,
            timeout_ms=self.timeout_ms,
            side_effect=SideEffect.NONE,
            kind=ToolKind.BUILTIN,
            schema_hash=schema_hash(self.description, self.parameters),
        )


@dataclass(frozen=True, slots=True)
class ComputingRunner:
    """Runs a function on a worker thread, so that the time limit holds while it computes.

    Texts of at most `inline_characters` are computed at once: that takes less than the way to a thread and back.
    """

    threads: Executor
    function: Callable[[JsonObject], Any]
    inline_characters: int

    async def run(self, arguments: JsonObject, context: CallContext) -> Any:
        if sum(len(str(value)) for value in arguments.values()) <= self.inline_characters:
            return self.function(arguments)
        return await asyncio.get_running_loop().run_in_executor(self.threads, self.function, arguments)


def computed(function: Callable[[JsonObject], Any], *, inline_characters: int = 0) -> Callable[[Services], Runner]:
    """A builder for tools that only compute."""
    return lambda services: ComputingRunner(services.threads, function, inline_characters)


def one_text(name: str, description: str) -> JsonObject:
    """The schema of a tool with one text argument."""
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": description}},
        "required": [name],
        "additionalProperties": False,
    }
