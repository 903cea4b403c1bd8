"""Runs over real gRPC: their events, their end, who may see them, and what is refused."""

import asyncio
from typing import Any

import grpc
import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import as_somebody
from errand_common.errors import Conflict, InvalidArgument, NotFound, Unavailable
from errand_common.principal import Principal
from errand_common.rpc.client import translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


def _asked(message: str, **more: Any) -> pb.RunAgentRequest:
    return pb.RunAgentRequest(message=message, **more)


async def _started(stub: Stub, message: str, **more: Any) -> pb.Run:
    response = await stub.StartRun(pb.StartRunRequest(request=_asked(message, **more)))
    run: pb.Run = response.run
    return run


async def _ended(stub: Stub, run_id: str) -> pb.Run:
    async with asyncio.timeout(30):
        async for event in stub.WatchRun(pb.WatchRunRequest(id=run_id)):
            last = event.event
    ended: pb.Run = last.ended
    return ended


def _kinds(steps: Any) -> list[str]:
    return [pb.StepKind.Name(step.kind).removeprefix("STEP_KIND_") for step in steps]


async def test_a_call_and_its_answer_are_steps(stub: Stub, caller: Principal) -> None:
    run = (await stub.RunAgent(_asked("calculate six times seven"))).run
    assert run.answer == "The result is 42."
    assert _kinds(run.steps) == ["THINK", "ACT", "OBSERVE", "ANSWER"]
    assert run.steps[1].tool_name == "calculator"
    assert run.stop_reason == pb.STOP_REASON_ANSWER
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (20, 10)


async def test_events_are_numbered_without_gaps_and_end_with_the_run(stub: Stub, caller: Principal) -> None:
    request = pb.RunAgentStreamRequest(request=_asked("calculate it"))
    events = [response.event async for response in stub.RunAgentStream(request)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].WhichOneof("event") == "started"
    assert events[-1].ended.answer == "The result is 42."
    assert "".join(event.delta.text for event in events if event.WhichOneof("event") == "delta") == "The result is 42."
    resumed = pb.WatchRunRequest(id=events[-1].ended.id, after_sequence=3)
    again = [response.event async for response in stub.WatchRun(resumed)]
    assert again == events[3:]


async def test_an_answer_from_a_document_cites_it(stub: Stub, caller: Principal) -> None:
    run = (await stub.RunAgent(_asked("what is the warranty?"))).run
    assert _kinds(run.steps)[0] == "RETRIEVE"


async def test_a_cancelled_run_ends_as_such_and_frees_the_model(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    backend.inference.waiting.clear()
    backend.inference.cancelled.clear()
    run = await _started(stub, "wait for it")
    await asyncio.wait_for(backend.inference.waiting.wait(), 20)
    await stub.CancelRun(pb.CancelRunRequest(id=run.id))
    assert (await _ended(stub, run.id)).stop_reason == pb.STOP_REASON_CANCELLED
    await asyncio.wait_for(backend.inference.cancelled.wait(), 10)


async def test_a_client_that_leaves_cancels_its_run(stub: Stub, caller: Principal, backend: FakeBackend) -> None:
    backend.inference.waiting.clear()
    call = stub.RunAgentStream(pb.RunAgentStreamRequest(request=_asked("wait for it")))
    started = (await call.read()).event.started
    await asyncio.wait_for(backend.inference.waiting.wait(), 20)
    call.cancel()
    assert (await _ended(stub, started.run_id)).stop_reason == pb.STOP_REASON_CANCELLED


async def test_a_client_that_only_watches_may_leave(stub: Stub, caller: Principal, backend: FakeBackend) -> None:
    backend.inference.waiting.clear()
    run = await _started(stub, "wait for it")
    call = stub.WatchRun(pb.WatchRunRequest(id=run.id))
    await call.read()
    await asyncio.wait_for(backend.inference.waiting.wait(), 20)
    call.cancel()
    backend.inference.release.set()
    assert (await _ended(stub, run.id)).stop_reason == pb.STOP_REASON_ANSWER
    backend.inference.release.clear()


async def test_one_key_is_one_run(stub: Stub, caller: Principal) -> None:
    first = await _started(stub, "calculate once", idempotency_key="key-1")
    second = await _started(stub, "calculate once", idempotency_key="key-1")
    assert first.id == second.id
    with pytest.raises(Conflict), translate_errors("agent"):
        await _started(stub, "calculate something else", idempotency_key="key-1")
    assert (await _ended(stub, first.id)).answer == "The result is 42."


async def test_a_conversation_answers_one_message_at_a_time(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    run = await _started(stub, "wait for it")
    with pytest.raises(Conflict), translate_errors("agent"):
        await _started(stub, "another", conversation_id=run.conversation_id)
    await stub.CancelRun(pb.CancelRunRequest(id=run.id))
    await _ended(stub, run.id)
    after = (await stub.RunAgent(_asked("another", conversation_id=run.conversation_id))).run
    assert after.stop_reason == pb.STOP_REASON_ANSWER


async def test_a_model_that_is_away_is_unavailable_and_the_run_says_so(stub: Stub, caller: Principal) -> None:
    with pytest.raises(Unavailable, match="run_"), translate_errors("agent"):
        await stub.RunAgent(_asked("the model is away"), timeout=60)
    listed = await stub.ListRuns(pb.ListRunsRequest())
    runs = [run for run in listed.runs if run.message == "the model is away"]
    assert [run.stop_reason for run in runs] == [pb.STOP_REASON_UNAVAILABLE], "the client must not ask again by itself"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_asked(""), "message"),
        (_asked("   "), "message"),
        (_asked("x" * 32_769), "message"),
        (_asked("x", conversation_id="c" * 65), "conversation_id"),
        (_asked("x", idempotency_key="k" * 129), "idempotency_key"),
    ],
)
async def test_what_is_wrong_is_named(stub: Stub, caller: Principal, request_: pb.RunAgentRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await stub.RunAgent(request_)
    assert refused.value.metadata["field"] == field


async def test_what_does_not_exist_is_not_found(stub: Stub, caller: Principal) -> None:
    calls = (
        stub.RunAgent(_asked("x", agent="nobody")),
        stub.RunAgent(_asked("x", conversation_id="conv_none")),
        stub.GetRun(pb.GetRunRequest(id="run_none")),
        stub.CancelRun(pb.CancelRunRequest(id="run_none")),
        stub.GetConversation(pb.GetConversationRequest(id="conv_none")),
        stub.SubmitFeedback(pb.SubmitFeedbackRequest(run_id="run_none", helpful=True)),
    )
    for call in calls:
        with pytest.raises(NotFound), translate_errors("agent"):
            await call


@pytest.mark.parametrize(("tenant", "person"), [("other", "user-1"), ("default", "user-2")])
async def test_nobody_else_sees_a_run(stub: Stub, caller: Principal, keys: TestKeys, tenant: str, person: str) -> None:
    run = (await stub.RunAgent(_asked("calculate mine"))).run
    with as_somebody(keys, tenant, person):
        for call in (
            stub.GetRun(pb.GetRunRequest(id=run.id)),
            stub.CancelRun(pb.CancelRunRequest(id=run.id)),
            stub.GetConversation(pb.GetConversationRequest(id=run.conversation_id)),
            stub.ListMessages(pb.ListMessagesRequest(conversation_id=run.conversation_id)),
            stub.DeleteConversation(pb.DeleteConversationRequest(id=run.conversation_id)),
            stub.SubmitFeedback(pb.SubmitFeedbackRequest(run_id=run.id, helpful=True)),
            stub.RunAgent(_asked("x", conversation_id=run.conversation_id)),
            _ended(stub, run.id),
        ):
            with pytest.raises(NotFound), translate_errors("agent"):
                await call
        listed = await stub.ListRuns(pb.ListRunsRequest())
        assert run.id not in [other.id for other in listed.runs]


async def test_an_admin_sees_the_tenants_runs(stub: Stub, caller: Principal, keys: TestKeys) -> None:
    run = (await stub.RunAgent(_asked("calculate mine"))).run
    with as_somebody(keys, "default", "boss", "admin"):
        assert (await stub.GetRun(pb.GetRunRequest(id=run.id))).run.answer == run.answer


async def test_pages_hold_every_run_once(stub: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "pages", "reader"):
        made = {(await _started(stub, f"calculate {number}")).id for number in range(5)}
        seen: list[str] = []
        token = ""
        while True:
            request = pb.ListRunsRequest()
            request.page.page_size, request.page.page_token = 2, token
            page = await stub.ListRuns(request)
            seen += [run.id for run in page.runs]
            token = page.next_page_token
            if not token:
                break
        assert sorted(seen) == sorted(made)
        assert seen == sorted(seen, reverse=True)


async def test_feedback_is_kept_with_the_run(stub: Stub, caller: Principal) -> None:
    run = (await stub.RunAgent(_asked("calculate mine"))).run
    for helpful in (True, False):
        await stub.SubmitFeedback(pb.SubmitFeedbackRequest(run_id=run.id, helpful=helpful, correction="43"))


async def test_without_a_token_nothing_is_answered(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListRuns(pb.ListRunsRequest())
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
