"""MCP servers that do what a test says."""

from typing import Any

from errand_tools.domain.tools import CallContext, JsonObject, Tool


class ScriptedMcpCaller:
    """Answers with one value, or raises it."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.calls: list[tuple[str, JsonObject]] = []

    async def run(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        self.calls.append((tool.name, arguments))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer
