"""A run that is told over replicas that come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1.agent_pb2_grpc import add_AgentServiceServicer_to_server
from errand_common.errors import ErrandError, Unavailable
from errand_common.rpc.client import acting_as, create_channel
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import serving
from errand_gateway.clients.agent import GrpcAgentBackend, runs
from errand_gateway.domain.resources import Run, RunCommand
from errand_gateway.testing.agent import FakeAgent

HELLO = RunCommand("hello", "", "")


class _Dying(FakeAgent):
    """Its streams of new runs break; the first `away` readers who go on find nobody."""

    def __init__(self, *, away: int, told: int = 2) -> None:
        super().__init__()
        self.away, self.told = away, told
        self.cancelled: list[str] = []

    async def RunAgentStream(  # noqa: N802 - the protocol's name
        self, request: pb.RunAgentStreamRequest, context: Any
    ) -> AsyncIterator[pb.RunAgentStreamResponse]:
        async with aclosing(super().RunAgentStream(request, context)) as answers:  # type: ignore[type-var]
            for _ in range(self.told):
                yield await anext(answers)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.WatchRunResponse]:  # noqa: N802
        self.away -= 1
        if self.away >= 0:
            raise Unavailable("database")
        await self._work(self._runs.get(request.id))
        async for answer in super().WatchRun(request, context):
            yield answer

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:  # noqa: N802
        self.cancelled.append(request.id)
        return await super().CancelRun(request, context)


@pytest.fixture(autouse=True)
def _at_once(keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(runs, "_RESUME_PAUSES", (0.0, 0.0, 0.0))
    with acting_as(principal(roles=("user",)), signer=keys.signer):
        yield


async def _told(agent: FakeAgent, keys: TestKeys, *, stops_after: int = 100) -> list[Any]:
    registration = Registration(add_AgentServiceServicer_to_server, agent, "errand.agent.v1.AgentService")
    events: list[Any] = []
    async with (
        serving([registration], keys) as target,
        create_channel(target) as channel,
        aclosing(GrpcAgentBackend(channel).stream(HELLO)) as stream,  # type: ignore[type-var]
    ):
        async for event in stream:
            events.append(event)
            if len(events) == stops_after:
                break
    return events


async def test_a_stream_goes_on_where_its_replica_ended(keys: TestKeys) -> None:
    agent = _Dying(away=2)
    events = await _told(agent, keys)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1].body, Run)
    assert events[-1].body.answer == "You said: hello"
    assert len(agent.requests) == 1
    assert not agent.cancelled


async def test_a_reader_who_leaves_then_cancels_the_run(keys: TestKeys) -> None:
    agent = _Dying(away=0)
    agent.slow_seconds = 0
    await _told(agent, keys, stops_after=3)
    assert len(agent.cancelled) == 1


@pytest.mark.parametrize("agent", [_Dying(away=100), _Dying(away=0, told=0)], ids=["for good", "before it began"])
async def test_a_service_that_stays_away_is_told(keys: TestKeys, agent: _Dying) -> None:
    with pytest.raises(ErrandError) as raised:
        await _told(agent, keys)
    assert isinstance(raised.value, Unavailable)


async def test_a_request_that_a_channel_repeats_is_one_run(keys: TestKeys) -> None:
    agent = FakeAgent()
    registration = Registration(add_AgentServiceServicer_to_server, agent, "errand.agent.v1.AgentService")
    async with serving([registration], keys) as target, create_channel(target) as channel:
        backend = GrpcAgentBackend(channel)
        await asyncio.gather(backend.run(HELLO), backend.run(HELLO), backend.start(HELLO))
    given = [request.idempotency_key for request in agent.requests]
    assert all(given)
    assert len(set(given)) == 3
