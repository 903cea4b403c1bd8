"""Prompts over real gRPC: versions, aliases, what runs are told, and what came of them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, prompts_pb2_grpc
from errand.agent.v1 import prompts_pb2 as pb
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import as_somebody
from errand_common.errors import InvalidArgument, NotFound
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


@pytest_asyncio.fixture(loop_scope="session")
async def prompts(agent_target: str) -> AsyncIterator[Any]:
    async with create_channel(agent_target) as channel:
        yield prompts_pb2_grpc.PromptServiceStub(channel)


async def _put(prompts: Any, template: str, name: str = "tone") -> pb.Prompt:
    stored: pb.Prompt = (
        await prompts.PutPrompt(pb.PutPromptRequest(prompt=pb.Prompt(name=name, template=template)))
    ).prompt
    return stored


async def _alias(prompts: Any, *shares: tuple[int, int], name: str = "tone") -> pb.Prompt:
    variants = [pb.PromptVariant(version=version, percent=percent) for version, percent in shares]
    request = pb.SetPromptAliasRequest(name=name, alias=pb.PromptAlias(name="live", variants=variants))
    changed: pb.Prompt = (await prompts.SetPromptAlias(request)).prompt
    return changed


async def test_runs_are_told_what_their_version_says(
    stub: Stub, prompts: Any, keys: TestKeys, backend: FakeBackend
) -> None:
    with as_somebody(keys, "prompters", "ann"):
        assert [(await _put(prompts, f"Version {n} for {{{{ user }}}}.")).version for n in (1, 2)] == [1, 2]
        await _alias(prompts, (1, 100))
        clerk = agent_pb2.Agent(name="clerk", prompt="tone@live", instructions="Mine.")
        await stub.CreateAgent(agent_pb2.CreateAgentRequest(agent=clerk))
        told = []
        for shares in ([(1, 100)], [(2, 100)]):
            await _alias(prompts, *shares)
            run = (await stub.RunAgent(agent_pb2.RunAgentRequest(agent="clerk", message="hello"))).run
            told.append((run.prompt, backend.inference.instructions[-1]))
        assert told == [("tone:1", "Version 1 for ann."), ("tone:2", "Version 2 for ann.")]
        await stub.SubmitFeedback(agent_pb2.SubmitFeedbackRequest(run_id=run.id, helpful=True))
        found = (await prompts.GetPromptResults(pb.GetPromptResultsRequest(name="tone"))).results
        assert [(row.version, row.runs, row.answered, row.helpful, row.tokens) for row in found] == [
            (2, 1, 1, 1, 15),
            (1, 1, 1, 0, 15),
        ]
        await prompts.DeletePrompt(pb.DeletePromptRequest(name="tone"))
        run = (await stub.RunAgent(agent_pb2.RunAgentRequest(agent="clerk", message="hello"))).run
        assert (run.prompt, backend.inference.instructions[-1]) == ("", "Mine.")
        assert (await prompts.ListPrompts(pb.ListPromptsRequest())).prompts == []


async def test_wrong_prompts_and_references_are_refused(stub: Stub, prompts: Any, keys: TestKeys) -> None:
    with as_somebody(keys, "wrong-prompters", "ann"):
        with pytest.raises(InvalidArgument, match="not known"), translate_errors("agent"):
            await _put(prompts, "{{ nobody }}")
        with pytest.raises(NotFound), translate_errors("agent"):
            await _alias(prompts, (1, 100))
        await _put(prompts, "Hello.")
        with pytest.raises(InvalidArgument, match="make 30"), translate_errors("agent"):
            await _alias(prompts, (1, 30))
        assert not (await prompts.GetPrompt(pb.GetPromptRequest(name="tone"))).prompt.aliases
        with pytest.raises(NotFound), translate_errors("agent"):
            await prompts.GetPrompt(pb.GetPromptRequest(name="tone", version=2))
        for reference in ("nobody", "tone@live"):
            wrong = agent_pb2.Agent(name="clerk", prompt=reference)
            with pytest.raises(InvalidArgument, match="prompt"), translate_errors("agent"):
                await stub.CreateAgent(agent_pb2.CreateAgentRequest(agent=wrong))
