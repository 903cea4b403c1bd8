"""What a tool tells while it runs reaches those who read along, and is not kept."""

from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand.tools.v1 import tools_pb2
from errand_agent.testing.backend import FakeBackend
from errand_common.principal import Principal

Stub = agent_pb2_grpc.AgentServiceStub


async def test_a_reader_is_told_how_far_a_tool_is_and_a_later_one_is_not(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    told = tools_pb2.ToolProgress(message="reading", done=40, total=100, elapsed_ms=500)
    backend.tools.progress, events = [told], []
    request = pb.RunAgentStreamRequest(request=pb.RunAgentRequest(message="calculate it"))
    try:
        async for response in stub.RunAgentStream(request):
            events.append(response.event)
            if response.event.HasField("tool_progress"):
                # Only now does the tool go on.
                backend.tools.heard.set()
    finally:
        backend.tools.progress = []
        backend.tools.heard.clear()
    [index] = [place for place, event in enumerate(events) if event.HasField("tool_progress")]
    progress = events.pop(index)
    assert progress.tool_progress == pb.ToolProgress(
        tool_name="calculator", message="reading", done=40, total=100, elapsed_ms=500
    )
    assert progress.sequence == events[index - 1].sequence
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    again = stub.WatchRun(pb.WatchRunRequest(id=events[-1].ended.id))
    assert [response.event async for response in again] == events
