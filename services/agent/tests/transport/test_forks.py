"""Forks and redrives: what was done is not done again, what follows is."""

import asyncio
from typing import Any

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


async def _run(stub: Stub, message: str, **more: Any) -> pb.Run:
    run: pb.Run = (await stub.RunAgent(pb.RunAgentRequest(message=message, **more))).run
    return run


async def _ended(stub: Stub, run_id: str) -> pb.Run:
    async with asyncio.timeout(30):
        events = [item.event async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id))]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    ended: pb.Run = events[-1].ended
    return ended


async def test_a_fork_keeps_what_was_done_and_does_the_rest_anew(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    first = await _run(stub, "hello")
    origin = await _run(stub, "calculate the fork", conversation_id=first.conversation_id)
    await _run(stub, "and later?", conversation_id=first.conversation_id)
    request = pb.ForkRunRequest(id=origin.id, from_model_step=2, model="another", instructions="Be brief.")
    forked = (await stub.ForkRun(request)).run
    ended = await _ended(stub, forked.id)
    assert (ended.forked_from, ended.answer) == (origin.id, "The result is 42.")
    assert [step.kind for step in ended.steps] == [step.kind for step in origin.steps]
    assert not any(asked[0] == forked.id for asked in backend.tools.asked), "the tool's step was done before"
    assert backend.inference.turns["calculate the fork"] == 3
    assert (backend.inference.models[-1], backend.inference.instructions[-1]) == ("another", "Be brief.")
    said = await stub.ListMessages(pb.ListMessagesRequest(conversation_id=forked.conversation_id))
    assert [message.text for message in said.messages] == [
        "hello",
        "The result is 42.",
        "calculate the fork",
        "The result is 42.",
    ]


async def test_a_fork_with_a_model_that_is_not_served_is_refused(stub: Stub, caller: Principal) -> None:
    origin = await _run(stub, "calculate with nothing")
    with pytest.raises(InvalidArgument, match="'nowhere' is not served"), translate_errors("agent"):
        await stub.ForkRun(pb.ForkRunRequest(id=origin.id, from_model_step=2, model="nowhere"))
    listed = await stub.ListRuns(pb.ListRunsRequest())
    assert origin.id not in [run.forked_from for run in listed.runs]


async def test_a_fork_from_the_first_step_acts_again(stub: Stub, caller: Principal, backend: FakeBackend) -> None:
    origin = await _run(stub, "calculate from the start")
    forked = (await stub.ForkRun(pb.ForkRunRequest(id=origin.id, from_model_step=1))).run
    await _ended(stub, forked.id)
    assert backend.tools.asked[forked.id, 1, 0] == 1


async def test_a_dead_letter_is_listed_and_tried_again(stub: Stub, keys: TestKeys, backend: FakeBackend) -> None:
    with as_somebody(keys, "redrive", "user-1"):
        backend.inference.is_away = True
        with pytest.raises(Unavailable), translate_errors("agent"):
            await _run(stub, "calculate in vain")
        backend.inference.is_away = False
        await _run(stub, "calculate well")
        dead = pb.ListRunsRequest(stop_reasons=[pb.STOP_REASON_UNAVAILABLE, pb.STOP_REASON_INTERNAL])
        [letter] = (await stub.ListRuns(dead)).runs
        assert letter.message == "calculate in vain"
        again = (await stub.RedriveRun(pb.RedriveRunRequest(id=letter.id))).run
        ended = await _ended(stub, again.id)
        assert (ended.answer, ended.forked_from) == ("The result is 42.", letter.id)
        by_agent = await stub.ListRuns(pb.ListRunsRequest(agent="nobody"))
        assert not by_agent.runs


async def test_only_ended_runs_fork_and_only_dead_letters_are_tried_again(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    well = await _run(stub, "calculate well")
    with pytest.raises(Conflict), translate_errors("agent"):
        await stub.RedriveRun(pb.RedriveRunRequest(id=well.id))
    running = (await stub.StartRun(pb.StartRunRequest(request=pb.RunAgentRequest(message="wait for it")))).run
    with pytest.raises(Conflict), translate_errors("agent"):
        await stub.ForkRun(pb.ForkRunRequest(id=running.id, from_model_step=1))
    await stub.CancelRun(pb.CancelRunRequest(id=running.id))


@pytest.mark.parametrize("step", [0, 3, 65])
async def test_a_step_that_was_not_made_is_named(stub: Stub, caller: Principal, step: int) -> None:
    origin = await _run(stub, "calculate it")
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await stub.ForkRun(pb.ForkRunRequest(id=origin.id, from_model_step=step))
    assert refused.value.metadata["field"] == "from_model_step"


async def test_nobody_elses_run_is_forked(stub: Stub, caller: Principal, keys: TestKeys) -> None:
    origin = await _run(stub, "calculate mine")
    for tenant, person in (("other", "user-1"), ("default", "user-2")):
        with as_somebody(keys, tenant, person):
            for call in (
                stub.ForkRun(pb.ForkRunRequest(id=origin.id, from_model_step=1)),
                stub.RedriveRun(pb.RedriveRunRequest(id=origin.id)),
            ):
                with pytest.raises(NotFound), translate_errors("agent"):
                    await call
