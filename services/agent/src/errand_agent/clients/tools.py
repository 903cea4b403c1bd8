"""The tools service as the domain's Toolbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from errand.common.v1 import common_pb2
from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1 import tools_pb2_grpc
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_agent.domain.ports import Call, ToolResult, ToolSpec
from errand_agent.domain.runs import Budget, Usage

# Long enough for a service that is just starting again, and then the run goes on without its tools.
_LIST_SECONDS = 5.0
# Longer than any tool may take, so that the tools service's own limit decides.
_EXECUTE_SECONDS = 310.0
_PAGE = 200


class ToolsToolbox:
    """Lists and runs the tenant's tools."""

    def __init__(
        self, channel: grpc.aio.Channel, tell: Callable[[str, Mapping[str, Any]], None] = lambda *_: None
    ) -> None:
        """`tell` gets a run's id and how far a tool is that it called."""
        self._stub = tools_pb2_grpc.ToolsServiceStub(channel)
        self._tell = tell

    async def declared(self, names: Sequence[str]) -> list[ToolSpec]:
        """The enabled ones among these tools that no policy denies, in this order."""
        known = {tool.name: tool for tool in await self._enabled() if _policy(tool) != pb.TOOL_POLICY_DENY}
        return [_spec(known[name]) for name in names if name in known]

    async def _enabled(self) -> list[pb.Tool]:
        tools: list[pb.Tool] = []
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=_PAGE, page_token=token)
            with translate_errors("tools"):
                response = await self._stub.ListTools(
                    pb.ListToolsRequest(page=page, enabled_only=True),
                    timeout=deadline_seconds(_LIST_SECONDS),
                    wait_for_ready=True,
                )
            tools.extend(response.tools)
            token = response.next_page_token
            if not token:
                return tools

    async def execute(
        self, call: Call, *, run_id: str, step: int, index: int, collections: Sequence[str], left: Budget | None
    ) -> ToolResult:
        """Runs a call."""
        request = pb.ExecuteToolRequest(
            name=call.name,
            arguments_json=call.arguments_json,
            run_id=run_id,
            step=step,
            call_index=index,
            collection_ids=collections,
        )
        response = pb.ExecuteToolResponse()
        with translate_errors("tools"):
            timeout = deadline_seconds(_EXECUTE_SECONDS)
            async for event in self._stub.ExecuteToolStream(
                pb.ExecuteToolStreamRequest(request=request), timeout=timeout
            ):
                if event.WhichOneof("event") == "result":
                    response = event.result
                elif event.WhichOneof("event") == "progress":
                    self._tell(run_id, _told(call.name, index, event.progress))
        failed = response.status != pb.EXECUTION_STATUS_SUCCEEDED
        told = response.result_json or '{"error": "the tool gave no result"}'
        return ToolResult(told, failed, response.duration_ms, Usage(tool_cost_micros=response.cost_micros))


def _told(tool_name: str, index: int, progress: pb.ToolProgress) -> dict[str, Any]:
    return {
        "tool_name": tool_name,
        "call_index": index,
        "message": progress.message,
        "done": progress.done,
        "total": progress.total,
        "elapsed_ms": progress.elapsed_ms,
    }


def _spec(tool: pb.Tool) -> ToolSpec:
    return ToolSpec(tool.name, tool.description, tool.parameters_json, asks=_policy(tool) == pb.TOOL_POLICY_ASK)


def _policy(tool: pb.Tool) -> pb.ToolPolicy:
    """What holds for the run's person, by role."""
    return tool.effective_policy or tool.policy
