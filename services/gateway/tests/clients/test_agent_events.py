"""Events of a run as the agent service sends them."""

from errand.agent.v1 import agent_pb2 as pb
from errand_gateway.clients.agent.messages import event, run
from errand_gateway.domain.resources import Approval, ApprovalState, RunState, StopReason, ToolProgress


def test_a_call_that_waits_for_a_person_is_told_as_such() -> None:
    approval = pb.Approval(id="a1", run_id="r1", tool_name="http_get", state=pb.APPROVAL_STATE_PENDING)
    approval.arguments_json = '{"url": "x"}'
    told = event(pb.RunEvent(sequence=3, approval=approval))
    assert told.body == Approval("a1", "r1", "http_get", {"url": "x"}, ApprovalState.PENDING)


def test_a_run_that_waits_says_why() -> None:
    waiting = run(pb.Run(state=pb.RUN_STATE_WAITING, stop_reason=pb.STOP_REASON_NEEDS_APPROVAL))
    assert (waiting.state, waiting.stop_reason) == (RunState.WAITING, StopReason.NEEDS_APPROVAL)


def test_how_far_a_tool_is_is_told_as_such() -> None:
    progress = pb.ToolProgress(tool_name="crm.export", call_index=1, message="reading", done=4, total=10, elapsed_ms=9)
    told = event(pb.RunEvent(sequence=3, tool_progress=progress))
    assert told.body == ToolProgress("crm.export", 1, "reading", 4, 10, 9)
    assert told.sequence == 3
