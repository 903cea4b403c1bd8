"""Every figure of the agent moves when that happens which it counts, as a scraper sees it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc, examples_pb2, examples_pb2_grpc, memory_pb2, memory_pb2_grpc
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.errors import InvalidArgument, Unavailable
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def process(
    tmp_path_factory: pytest.TempPathFactory, keys: TestKeys, backend: FakeBackend
) -> AsyncIterator[AgentProcess]:
    """A service of its own: others would move its figures."""
    process = AgentProcess(tmp_path_factory.mktemp("metrics"), keys, backend.target)
    await process.start()
    yield process
    assert process.end() == 0


@pytest.fixture
def figure(process: AgentProcess) -> Callable[..., float]:
    return process.figure


async def _ask(process: AgentProcess, message: str, **more: Any) -> pb.Run:
    async with create_channel(process.target) as channel:
        request = pb.RunAgentRequest(message=message, **more)
        run: pb.Run = (await agent_pb2_grpc.AgentServiceStub(channel).RunAgent(request)).run
        return run


async def test_a_run_moves_the_figures_of_its_steps(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    with as_somebody(keys, "metrics", "runner"):
        first = await _ask(process, "what is the warranty? calculate it")
        assert figure("requests_total", agent="default", node="think") == 2
        assert figure("requests_total", agent="default", node="act") == 1
        assert figure("requests_total", agent="default", node="retrieve") == 1
        assert figure("node_latency_ms_count", node="think") == 2
        assert figure("context_retrievals_total") == 1
        assert figure("context_storage_total") == 2, "the question and the answer"
        assert figure("token_budget_used_count") == 1
        assert figure("token_budget_used_sum") > 0
        assert figure("token_budget_remaining_sum") > 0
        assert figure("agent_runs_total", stop_reason="ANSWER") == 1
        assert figure("agent_steps_per_run_sum") == len(first.steps)


async def test_a_context_that_overflows_is_counted(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    with as_somebody(keys, "metrics", "talker"):
        before = figure("context_storage_total")
        first = await _ask(process, "tell me of whales. " + "they are big. " * 1200)
        await _ask(process, "go on", conversation_id=first.conversation_id)
        assert figure("token_budget_overflows_total") == 1
        assert figure("context_storage_total") - before == 5, "two questions, two answers and the brief"


async def test_a_deleted_agent_s_conversation_goes_on_with_the_default_one(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    with as_somebody(keys, "metrics", "boss", "admin"):
        async with create_channel(process.target) as channel:
            stub = agent_pb2_grpc.AgentServiceStub(channel)
            await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="waiter", instructions="Serve.")))
            first = await _ask(process, "hello", agent="waiter")
            await stub.DeleteAgent(pb.DeleteAgentRequest(name="waiter"))
        second = await _ask(process, "hello again", conversation_id=first.conversation_id)
        assert (first.agent, second.agent) == ("waiter", "default")
    assert figure("requests_total", agent="waiter", node="think") == 1
    assert figure("routing_fallbacks_total", from_agent="waiter", to_agent="default") == 1


async def test_a_model_that_fails_is_counted(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    with as_somebody(keys, "metrics", "unlucky"), pytest.raises(Unavailable), translate_errors("agent"):
        await _ask(process, "away")
    assert figure("llm_failures_total", component="agent") >= 1
    assert figure("agent_runs_total", stop_reason="UNAVAILABLE") == 1


async def test_requests_of_facts_are_counted_by_how_they_end(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    queries = figure("facts_query_requests_total", status="OK")
    with as_somebody(keys, "metrics", "teller"):
        async with create_channel(process.target) as channel:
            memory = memory_pb2_grpc.MemoryServiceStub(channel)
            for text in ("I like tea.", "I like tea.", "I calculate."):
                kept = await memory.InsertFact(memory_pb2.InsertFactRequest(fact=memory_pb2.Fact(text=text)))
            with pytest.raises(InvalidArgument), translate_errors("agent"):
                await memory.InsertFact(memory_pb2.InsertFactRequest(fact=memory_pb2.Fact(text="  ")))
            await memory.QueryFacts(memory_pb2.QueryFactsRequest(query="tea"))
            with pytest.raises(InvalidArgument), translate_errors("agent"):
                await memory.QueryFacts(memory_pb2.QueryFactsRequest(query="  "))
            await memory.DeleteFact(memory_pb2.DeleteFactRequest(id=kept.fact.id))
    assert figure("facts_insert_requests_total", status="OK") == 3
    assert figure("facts_insert_requests_total", status="INVALID_ARGUMENT") == 1
    assert figure("facts_duplicates_total") == 1
    assert figure("facts_query_requests_total", status="OK") == queries + 1
    assert figure("facts_query_requests_total", status="INVALID_ARGUMENT") == 1
    assert figure("facts_erased_total") == 1
    for endpoint, requests in (("insert", 4), ("delete", 1)):
        assert figure("facts_request_duration_seconds_count", endpoint=endpoint) == requests


async def test_a_run_that_waits_for_a_person_is_a_workflow_that_has_not_ended(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    with as_somebody(keys, "metrics", "asker"):
        run = await _ask(process, "fetch it")
        assert run.state == pb.RUN_STATE_WAITING
        until = time.monotonic() + 30
        while figure("agent_workflows", status="pending") != 1 and time.monotonic() < until:  # noqa: ASYNC110 - another process's figure
            await asyncio.sleep(0.2)
        assert figure("agent_workflows", status="pending") == 1
        async with create_channel(process.target) as channel:
            await agent_pb2_grpc.AgentServiceStub(channel).CancelRun(pb.CancelRunRequest(id=run.id))


async def test_examples_that_are_exported_are_counted(
    process: AgentProcess, keys: TestKeys, figure: Callable[..., float]
) -> None:
    async with create_channel(process.target) as channel:
        examples: Any = examples_pb2_grpc.ExampleServiceStub(channel)
        with as_somebody(keys, "exported", "ann"):
            await examples.SetConsent(examples_pb2.SetConsentRequest(training=True))
            await _ask(process, "calculate it")
        with as_somebody(keys, "exported", "boss", "admin"):
            lines = [item async for item in examples.ExportExamples(examples_pb2.ExportExamplesRequest())]
    assert figure("agent_examples_exported_total") == len(lines) == 1
