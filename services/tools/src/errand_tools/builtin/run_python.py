"""Runs Python code in a sandbox."""

from dataclasses import dataclass

from errand_tools.builtin.base import BuiltinTool, Services, one_text
from errand_tools.domain.ports import CodeSandbox, Runner
from errand_tools.domain.tools import CallContext, JsonObject

CODE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _RunPython:
    sandbox: CodeSandbox

    async def run(self, arguments: JsonObject, context: CallContext) -> JsonObject:
        return await self.sandbox.run(arguments["code"], CODE_SECONDS)


def _build(services: Services) -> Runner:
    return _RunPython(services.sandbox)


TOOL = BuiltinTool(
    name="run_python",
    description="Run Python code in a sandbox and give its result or output.",
    parameters=one_text("code", "The code"),
    build=_build,
    # Beyond the code's own limit: the wait for a free sandbox.
    timeout_ms=10_000,
)
