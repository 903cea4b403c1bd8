"""Agents and conversations over real gRPC."""

import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import as_somebody
from errand_common.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from errand_common.principal import Principal
from errand_common.rpc.client import translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


async def test_every_save_is_a_version(stub: Stub, caller: Principal) -> None:
    made = (await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="clerk", tools=["calculator"])))).agent
    assert made.version == 1
    changed = pb.Agent(name="clerk", tools=["calculator"], instructions="Be short.")
    update = pb.UpdateAgentRequest(agent=changed, expected_version=1)
    assert (await stub.UpdateAgent(update)).agent.version == 2
    with pytest.raises(Conflict, match="2 is in force"), translate_errors("agent"):
        await stub.UpdateAgent(update)
    assert (await stub.GetAgent(pb.GetAgentRequest(name="clerk"))).agent.instructions == "Be short."
    with pytest.raises(AlreadyExists), translate_errors("agent"):
        await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="clerk")))


async def test_an_agent_is_asked_by_its_name_and_gone_when_deleted(stub: Stub, caller: Principal) -> None:
    await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="brief", tools=["calculator"])))
    run = (await stub.RunAgent(pb.RunAgentRequest(agent="brief", message="calculate it"))).run
    assert run.agent == "brief"
    await stub.DeleteAgent(pb.DeleteAgentRequest(name="brief"))
    with pytest.raises(NotFound), translate_errors("agent"):
        await stub.RunAgent(pb.RunAgentRequest(agent="brief", message="calculate it"))
    assert (await stub.GetRun(pb.GetRunRequest(id=run.id))).run.answer == run.answer


@pytest.mark.parametrize(
    ("agent", "field"),
    [
        (pb.Agent(name="a b"), "agent.name"),
        (pb.Agent(name="x", tools=["no_such_tool"]), "tools"),
        (pb.Agent(name="x", tools=["calculator", "calculator"]), "agent.tools"),
        (pb.Agent(name="x", collections=["nothing"]), "collections"),
        (pb.Agent(name="x", model="nowhere"), "model"),
        (pb.Agent(name="x", model="fake", fallback_models=["larger", "nowhere"]), "fallback_models"),
        (pb.Agent(name="x", max_steps=65), "agent.max_steps"),
        (pb.Agent(name="x", instructions="i" * 8193), "agent.instructions"),
    ],
)
async def test_a_wrong_definition_is_refused_and_not_kept(
    stub: Stub, caller: Principal, agent: pb.Agent, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await stub.CreateAgent(pb.CreateAgentRequest(agent=agent))
    assert refused.value.metadata["field"] == field
    assert "x" not in [known.name for known in (await stub.ListAgents(pb.ListAgentsRequest())).agents]


async def test_models_that_cannot_be_looked_up_are_not_saved(
    stub: Stub, caller: Principal, backend: FakeBackend
) -> None:
    made = pb.Agent(name="modelled", model="fake", fallback_models=["larger"])
    backend.inference.is_away = True
    try:
        with pytest.raises(Unavailable), translate_errors("agent"):
            await stub.CreateAgent(pb.CreateAgentRequest(agent=made))
    finally:
        backend.inference.is_away = False
    await stub.CreateAgent(pb.CreateAgentRequest(agent=made))


async def test_the_default_agent_can_be_changed_and_not_removed(stub: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "changers", "admin-1", "admin"):
        await stub.UpdateAgent(pb.UpdateAgentRequest(agent=pb.Agent(name="default", instructions="Hi.")))
        assert (await stub.GetAgent(pb.GetAgentRequest(name="default"))).agent.instructions == "Hi."
        with pytest.raises(Conflict), translate_errors("agent"):
            await stub.DeleteAgent(pb.DeleteAgentRequest(name="default"))


async def test_tenants_have_their_own_agents(stub: Stub, caller: Principal, keys: TestKeys) -> None:
    await stub.CreateAgent(pb.CreateAgentRequest(agent=pb.Agent(name="secret")))
    with as_somebody(keys, "other", "user-1", "admin"):
        with pytest.raises(NotFound), translate_errors("agent"):
            await stub.GetAgent(pb.GetAgentRequest(name="secret"))
        assert "secret" not in [agent.name for agent in (await stub.ListAgents(pb.ListAgentsRequest())).agents]


async def test_a_conversation_keeps_what_was_said_until_it_is_deleted(stub: Stub, caller: Principal) -> None:
    first = (await stub.RunAgent(pb.RunAgentRequest(message="calculate one"))).run
    conversation = first.conversation_id
    await stub.RunAgent(pb.RunAgentRequest(message="calculate two", conversation_id=conversation))
    listed = await stub.ListMessages(pb.ListMessagesRequest(conversation_id=conversation))
    assert [message.text for message in listed.messages] == [
        "calculate one",
        "The result is 42.",
        "calculate two",
        "The result is 42.",
    ]
    found = (await stub.GetConversation(pb.GetConversationRequest(id=conversation))).conversation
    assert found.title == "calculate one"
    await stub.DeleteConversation(pb.DeleteConversationRequest(id=conversation))
    for gone in (
        stub.GetConversation(pb.GetConversationRequest(id=conversation)),
        stub.GetRun(pb.GetRunRequest(id=first.id)),
    ):
        with pytest.raises(NotFound), translate_errors("agent"):
            await gone
