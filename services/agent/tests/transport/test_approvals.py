"""A tool that asks: the run waits for a person, for as long as it takes, and does what the person said."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from errand_common.principal import Principal
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


async def _waiting(stub: Stub, message: str = "fetch it") -> pb.Run:
    run: pb.Run = (await stub.RunAgent(pb.RunAgentRequest(message=message))).run
    assert (run.state, run.stop_reason) == (pb.RUN_STATE_WAITING, pb.STOP_REASON_NEEDS_APPROVAL)
    return run


async def _ended(stub: Stub, run_id: str) -> pb.Run:
    async with asyncio.timeout(30):
        events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id))]
    ended: pb.Run = events[-1].ended
    return ended


async def _approve(stub: Stub, approval_id: str, **more: Any) -> pb.Approval:
    response = await stub.ApproveCall(pb.ApproveCallRequest(approval_id=approval_id, **more))
    approval: pb.Approval = response.approval
    return approval


async def test_an_approved_call_runs(stub: Stub, caller: Principal, backend: FakeBackend) -> None:
    run = await _waiting(stub)
    [approval] = run.approvals
    assert (approval.tool_name, approval.arguments_json) == ("http_get", '{"url": "https://example.com"}')
    assert not any(asked[0] == run.id for asked in backend.tools.asked), "nothing ran before the person spoke"
    decided = await _approve(stub, approval.id, reason="go on")
    assert (decided.state, decided.decided_by, decided.reason) == (pb.APPROVAL_STATE_APPROVED, "user-1", "go on")
    ended = await _ended(stub, run.id)
    assert (ended.stop_reason, ended.answer) == (pb.STOP_REASON_ANSWER, "The result is 42.")
    assert backend.tools.arguments[run.id] == '{"url": "https://example.com"}'
    assert list(ended.approvals) == []


async def test_edited_arguments_are_what_runs(stub: Stub, caller: Principal, backend: FakeBackend) -> None:
    run = await _waiting(stub)
    await _approve(stub, run.approvals[0].id, edited_arguments_json='{"url": "https://example.org"}')
    await _ended(stub, run.id)
    assert backend.tools.arguments[run.id] == '{"url": "https://example.org"}'


async def test_a_refused_call_does_not_run_and_the_model_is_told(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    run = await _waiting(stub)
    await stub.RefuseCall(pb.RefuseCallRequest(approval_id=run.approvals[0].id, reason="not there"))
    ended = await _ended(stub, run.id)
    assert run.id not in backend.tools.arguments
    observed = next(step for step in ended.steps if step.kind == pb.STEP_KIND_OBSERVE)
    assert observed.result_json == '{"error": "A person refused this call: not there"}'
    assert ended.stop_reason == pb.STOP_REASON_ANSWER


async def test_the_stream_tells_of_the_question_and_its_answer(stub: Stub, caller: Principal) -> None:
    call = stub.RunAgentStream(pb.RunAgentStreamRequest(request=pb.RunAgentRequest(message="fetch it")))
    states = []
    async with asyncio.timeout(30):
        async for response in call:
            if response.event.WhichOneof("event") == "approval":
                states.append(response.event.approval.state)
                if len(states) == 1:
                    await _approve(stub, response.event.approval.id)
    assert states == [pb.APPROVAL_STATE_PENDING, pb.APPROVAL_STATE_APPROVED]
    assert response.event.ended.answer == "The result is 42."


async def test_a_caller_that_leaves_does_not_cancel_a_run_that_waits(stub: Stub, caller: Principal) -> None:
    call = stub.RunAgentStream(pb.RunAgentStreamRequest(request=pb.RunAgentRequest(message="fetch it")))
    async with asyncio.timeout(30):
        async for response in call:
            if response.event.WhichOneof("event") == "approval":
                break
    call.cancel()
    await asyncio.sleep(0.3)
    await _approve(stub, response.event.approval.id)
    assert (await _ended(stub, response.event.approval.run_id)).stop_reason == pb.STOP_REASON_ANSWER


async def test_a_run_that_waits_can_be_cancelled(stub: Stub, caller: Principal) -> None:
    run = await _waiting(stub)
    await stub.CancelRun(pb.CancelRunRequest(id=run.id))
    assert (await _ended(stub, run.id)).stop_reason == pb.STOP_REASON_CANCELLED
    with pytest.raises(Conflict), translate_errors("agent"):
        await _approve(stub, run.approvals[0].id)
    listed = await stub.ListApprovals(pb.ListApprovalsRequest(run_id=run.id))
    assert [approval.state for approval in listed.approvals] == [pb.APPROVAL_STATE_CANCELLED]


async def test_a_decision_stands(stub: Stub, caller: Principal) -> None:
    run = await _waiting(stub)
    first = await _approve(stub, run.approvals[0].id)
    assert await _approve(stub, run.approvals[0].id) == first, "said twice is said once"
    with pytest.raises(Conflict, match="approved"), translate_errors("agent"):
        await stub.RefuseCall(pb.RefuseCallRequest(approval_id=run.approvals[0].id))


async def test_only_the_runs_person_or_an_admin_decides(stub: Stub, caller: Principal, keys: TestKeys) -> None:
    run = await _waiting(stub)
    approval_id = run.approvals[0].id
    with as_somebody(keys, "default", "user-2"):
        with pytest.raises(PermissionDenied, match="approval_id"), translate_errors("agent"):
            await _approve(stub, approval_id)
        assert not (await stub.ListApprovals(pb.ListApprovalsRequest(run_id=run.id))).approvals
    with as_somebody(keys, "other", "boss", "admin"), pytest.raises(NotFound), translate_errors("agent"):
        await _approve(stub, approval_id)
    with as_somebody(keys, "default", "boss", "admin"):
        waiting = pb.ListApprovalsRequest(run_id=run.id, state=pb.APPROVAL_STATE_PENDING)
        assert [found.id for found in (await stub.ListApprovals(waiting)).approvals] == [approval_id]
        assert (await _approve(stub, approval_id)).decided_by == "boss"


@pytest.mark.parametrize("edited", ["nonsense", "[1]", "null", '"text"'])
async def test_edited_arguments_must_be_an_object(stub: Stub, caller: Principal, edited: str) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await _approve(stub, "appr_any", edited_arguments_json=edited)
    assert refused.value.metadata["field"] == "edited_arguments_json"


def _let_expire(folder: Path, approval_id: str) -> None:
    """Its time is over, without waiting for it."""
    with closing(sqlite3.connect(folder / "agent.db")) as connection:
        connection.execute("UPDATE approvals SET expires_at = created_at WHERE id = ?", (approval_id,))
        connection.commit()


async def test_a_run_waits_through_a_crash_and_gives_up_in_time(tmp_path: Path, keys: TestKeys) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            async with create_channel(process.target) as channel:
                stub = Stub(channel)
                decided, expired = await _waiting(stub), await _waiting(stub, "fetch another")
            process.end(signal.SIGKILL)
            _let_expire(tmp_path, expired.approvals[0].id)
            await process.start()
            async with create_channel(process.target) as channel:
                stub = Stub(channel)
                await _approve(stub, decided.approvals[0].id)
                assert (await _ended(stub, decided.id)).answer == "The result is 42."
                ended = await _ended(stub, expired.id)
                with pytest.raises(Conflict), translate_errors("agent"):
                    await _approve(stub, expired.approvals[0].id)
        process.end()
    assert "Nobody approved this call in time." in str(ended.steps)
    assert list(backend.tools.arguments) == [decided.id]
    assert backend.inference.turns["fetch it"] == 2, "the model's step before the wait is not done again"
