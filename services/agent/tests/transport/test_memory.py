"""Facts over real gRPC: merged, found, expired, erased, and known to the runs of their person alone."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, memory_pb2_grpc
from errand.agent.v1 import memory_pb2 as pb
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import as_somebody
from errand_agent.transport.convert import timestamp
from errand_common.db import utc_now
from errand_common.errors import InvalidArgument, NotFound, PermissionDenied
from errand_common.principal import Principal
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = memory_pb2_grpc.MemoryServiceStub


@pytest_asyncio.fixture(loop_scope="session")
async def memory(agent_target: str) -> AsyncIterator[Stub]:
    async with create_channel(agent_target) as channel:
        yield Stub(channel)


async def _told(memory: Stub, text: str, **more: Any) -> pb.InsertFactResponse:
    response: pb.InsertFactResponse = await memory.InsertFact(pb.InsertFactRequest(fact=pb.Fact(text=text, **more)))
    return response


async def _texts(memory: Stub, **asked: Any) -> list[str]:
    return [match.fact.text for match in (await memory.QueryFacts(pb.QueryFactsRequest(**asked))).matches]


async def test_the_same_fact_is_counted_by_text_and_by_meaning(memory: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "facts", "same"):
        first = await _told(memory, "I like tea.", expires_at=timestamp(utc_now() + timedelta(days=1)))
        again = await _told(memory, "i  LIKE tea.")
        alike = await _told(memory, "Tea is what I like.")
        other = await _told(memory, "I like to calculate.")
        elsewhere = await _told(memory, "I like tea.", agent="waiter")
        assert [first.merged, again.merged, alike.merged, other.merged, elsewhere.merged] == [0, 1, 1, 0, 0]
        assert (alike.fact.id, alike.fact.count, alike.fact.text) == (first.fact.id, 3, "I like tea.")
        assert not again.fact.HasField("expires_at"), "told without end, it holds without end"


async def test_facts_are_found_by_meaning_key_and_scope(memory: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "facts", "found"):
        await _told(memory, "I calculate in euros.", key="currency")
        await _told(memory, "The sky is blue.")
        await _told(memory, "Only the waiter knows.", agent="waiter", key="waiter")
        assert await _texts(memory, query="calculate it", top_k=1) == ["I calculate in euros."]
        assert await _texts(memory, query="calculate it", min_similarity=0.9) == ["I calculate in euros."]
        assert await _texts(memory, key="currency") == ["I calculate in euros."]
        assert await _texts(memory, key="waiter") == []
        assert await _texts(memory, key="waiter", agent="waiter") == ["Only the waiter knows."]


async def test_a_run_knows_its_persons_facts(
    memory: Stub, stub: agent_pb2_grpc.AgentServiceStub, keys: TestKeys, backend: FakeBackend
) -> None:
    with as_somebody(keys, "facts", "known"):
        await _told(memory, "I calculate in euros.")
        await stub.RunAgent(agent_pb2.RunAgentRequest(message="calculate my bill"))
        assert backend.inference.instructions[-1].endswith("Known about the user:\n- I calculate in euros.")
    with as_somebody(keys, "facts", "stranger"):
        await stub.RunAgent(agent_pb2.RunAgentRequest(message="calculate my bill"))
        assert "euros" not in backend.inference.instructions[-1]


async def test_facts_are_forgotten(memory: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "facts", "forgotten"):
        kept = (await _told(memory, "One.", key="one")).fact
        await _told(memory, "We calculate.")
        await memory.DeleteFact(pb.DeleteFactRequest(id=kept.id))
        with pytest.raises(NotFound), translate_errors("agent"):
            await memory.DeleteFact(pb.DeleteFactRequest(id=kept.id))
        assert [fact.text for fact in (await memory.ListFacts(pb.ListFactsRequest())).facts] == ["We calculate."]
    with as_somebody(keys, "facts", "nosy"), pytest.raises(PermissionDenied), translate_errors("agent"):
        await memory.EraseFacts(pb.EraseFactsRequest(principal_id="forgotten"))
    with as_somebody(keys, "other", "boss", "admin"):
        assert (await memory.EraseFacts(pb.EraseFactsRequest(principal_id="forgotten"))).erased == 0
    with as_somebody(keys, "facts", "boss", "admin"):
        assert (await memory.EraseFacts(pb.EraseFactsRequest(principal_id="forgotten"))).erased == 1


@pytest.mark.parametrize(
    ("fact", "field"),
    [
        (pb.Fact(), "fact.text"),
        (pb.Fact(text="   "), "fact.text"),
        (pb.Fact(text="x" * 1001), "fact.text"),
        (pb.Fact(text="x", key="k" * 129), "fact.key"),
        (pb.Fact(text="x", expires_at=timestamp(utc_now() - timedelta(seconds=1))), "fact.expires_at"),
    ],
)
async def test_what_is_no_fact_is_refused(memory: Stub, caller: Principal, fact: pb.Fact, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await memory.InsertFact(pb.InsertFactRequest(fact=fact))
    assert refused.value.metadata["field"] == field


async def test_a_query_asks_for_something(memory: Stub, caller: Principal) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await memory.QueryFacts(pb.QueryFactsRequest())
    assert refused.value.metadata["field"] == "query"
