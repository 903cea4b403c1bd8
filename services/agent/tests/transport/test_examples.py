"""Export of runs, with the consent of their people alone."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, examples_pb2_grpc
from errand.agent.v1 import examples_pb2 as pb
from errand_agent.testing.process import as_somebody
from errand_agent.transport.convert import timestamp
from errand_common.db import utc_now
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = examples_pb2_grpc.ExampleServiceStub


@pytest_asyncio.fixture(loop_scope="session")
async def examples(agent_target: str) -> AsyncIterator[Stub]:
    async with create_channel(agent_target) as channel:
        yield Stub(channel)


async def _asked(examples: Stub, **wanted: Any) -> list[str]:
    lines = [item.line async for item in examples.ExportExamples(pb.ExportExamplesRequest(**wanted))]
    return [json.loads(line)["messages"][0]["content"] for line in lines]


async def test_only_with_consent_and_only_while_it_stands(
    examples: Stub, stub: agent_pb2_grpc.AgentServiceStub, keys: TestKeys
) -> None:
    for person in ("ann", "bob"):
        with as_somebody(keys, "learning", person):
            run = (await stub.RunAgent(agent_pb2.RunAgentRequest(message=f"calculate for {person}"))).run
            await stub.RunAgent(agent_pb2.RunAgentRequest(message=f"talk to {person}@example.org"))
            await stub.SubmitFeedback(agent_pb2.SubmitFeedbackRequest(run_id=run.id, helpful=True))
    with as_somebody(keys, "learning", "ann"):
        assert not (await examples.GetConsent(pb.GetConsentRequest())).training
        await examples.SetConsent(pb.SetConsentRequest(training=True))
        assert (await examples.GetConsent(pb.GetConsentRequest())).training
    with as_somebody(keys, "learning", "boss", "admin"):
        assert await _asked(examples) == ["calculate for ann", "talk to ***"]
        assert await _asked(examples, with_calls_only=True) == ["calculate for ann"]
        assert await _asked(examples, approved_only=True) == ["calculate for ann"]
        assert await _asked(examples, limit=1) == ["calculate for ann"]
        assert await _asked(examples, agent="nobody") == []
        assert await _asked(examples, since=timestamp(utc_now() + timedelta(hours=1))) == []
    with as_somebody(keys, "other", "boss", "admin"):
        assert await _asked(examples) == []
    with as_somebody(keys, "learning", "ann"):
        await examples.SetConsent(pb.SetConsentRequest(training=False))
    with as_somebody(keys, "learning", "boss", "admin"):
        assert await _asked(examples) == []


async def test_only_admins_export(examples: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "learning", "ann"), pytest.raises(PermissionDenied), translate_errors("agent"):
        await _asked(examples)


async def test_a_time_that_ends_before_it_begins_is_refused(examples: Stub, keys: TestKeys) -> None:
    now = timestamp(utc_now())
    with as_somebody(keys, "learning", "boss", "admin"):
        with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
            await _asked(examples, since=now, until=now)
        assert refused.value.metadata["field"] == "until"
