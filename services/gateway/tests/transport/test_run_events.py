"""A run's events on the wire."""

import json
from collections.abc import AsyncIterator

from errand_gateway.domain.resources import RunEvent, RunStarted, ToolProgress
from errand_gateway.transport.context import RequestContext
from errand_gateway.transport.run_events import run_events


async def _events() -> AsyncIterator[RunEvent]:
    yield RunEvent(1, None, RunStarted("run_1", "conv_1", "default"))
    yield RunEvent(1, None, ToolProgress("crm.export", 0, "reading", 4, 10, 500))


async def test_how_far_a_tool_is_moves_no_reader_on() -> None:
    context = RequestContext("req_1")
    started, told = [event async for event in run_events(_events(), context)]
    assert (told.event, told.id) == ("tool_progress", started.id)
    assert json.loads(told.data) == {
        "tool_name": "crm.export",
        "call_index": 0,
        "message": "reading",
        "done": 4,
        "total": 10,
        "elapsed_ms": 500,
    }
