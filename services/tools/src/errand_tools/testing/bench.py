"""An executor over fakes, to call tools as a run does."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from errand_common.db import new_id, utc_now
from errand_common.personal_data import PersonalDataPolicy

from errand_tools.domain.callers import HttpTools
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.execution import Call, ToolExecutor
from errand_tools.domain.ledger import EffectLedger
from errand_tools.domain.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.tools import HttpBinding, JsonObject, Outcome, SideEffect, Tool, ToolKind
from errand_tools.domain.usage import UsageBook
from errand_tools.testing.http import ScriptedHttpCaller
from errand_tools.testing.mcp import ScriptedMcpCaller
from errand_tools.testing.secrets import secret_book
from errand_tools.testing.stores import InMemoryEffectStore, InMemoryToolStore, InMemoryUsageStore

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["to"],
}


class ToolBench:
    """An executor over stores in memory, started anew as after a crash by `restart`."""

    def __init__(self) -> None:
        self.http = ScriptedHttpCaller()
        self.tools = InMemoryToolStore()
        self.effects = InMemoryEffectStore()
        self.usage = UsageBook(InMemoryUsageStore(), utc_now)
        self.reported: list[tuple[str, BaseException]] = []
        self.runners: dict[str, Any] = {}
        self.now = 0.0
        self.personal_data = PersonalDataPolicy.OFF
        self.restart()

    def restart(self, *, running: int = 4, waiting: int = 4) -> None:
        """A new process over the same stores; `runners` are its built-in tools."""
        builtins = [
            Tool(name, "A built-in tool.", SCHEMA, timeout_ms=300, kind=ToolKind.BUILTIN) for name in self.runners
        ]
        self.secrets = secret_book()
        self.registry = ToolRegistry(self.tools, builtins, self.secrets, cache_seconds=0)
        self.ledger = EffectLedger(self.effects, owner=new_id("tools"), clock=utc_now)
        self.executor = ToolExecutor(
            self.registry,
            self.runners,
            {
                ToolKind.HTTP: HttpTools(self.http, self.secrets),
                ToolKind.MCP: ScriptedMcpCaller(),
            },
            self.ledger,
            usage=self.usage,
            rate=RateLimit(clock=lambda: self.now),
            limit=ConcurrencyLimit(running=running, waiting=waiting),
            breaker=CircuitBreaker(failures=3, open_seconds=30, clock=lambda: self.now),
            report=lambda tool, error: self.reported.append((tool, error)),
            personal_data=self.personal_data,
        )

    async def add(self, name: str, side_effect: SideEffect = SideEffect.NONE, **more: Any) -> None:
        """Registers an HTTP tool for tenant t1."""
        tool = Tool(
            name,
            "A tool.",
            SCHEMA,
            timeout_ms=300,
            side_effect=side_effect,
            http=HttpBinding("POST", f"https://a.example/{name}"),
        )
        await self.tools.add("t1", replace(tool, **more), most=100)

    async def sent(self, name: str) -> None:
        """Waits until the endpoint was called."""
        while not self.http.count(name):  # noqa: ASYNC110  the scripted endpoint tells nobody
            await asyncio.sleep(0.001)

    async def run(self, name: str, arguments: Any = None, index: int = 0) -> Outcome:
        """Calls a tool in step 1 of run_1."""
        text = json.dumps({"to": "ann"} if arguments is None else arguments)
        call = Call(name, text, CallPosition("run_1", 1, index))
        return await self.executor.execute("t1", call)


def error(outcome: Outcome) -> str:
    """What the model is told of a failure."""
    return str(json.loads(outcome.result_json)["error"])


async def hang() -> None:
    """An endpoint that does not answer in time."""
    await asyncio.sleep(60)
