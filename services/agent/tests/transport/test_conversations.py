"""Conversations are named, found, put away, and gone when deleted."""

import pytest
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import as_somebody
from errand_common.errors import InvalidArgument, NotFound
from errand_common.principal import Principal
from errand_common.rpc.client import translate_errors
from errand_common.testing.keys import TestKeys

Stub = agent_pb2_grpc.AgentServiceStub


async def _listed(stub: Stub, **filters: object) -> list[str]:
    response = await stub.ListConversations(pb.ListConversationsRequest(**filters))  # type: ignore[arg-type]
    return [conversation.title for conversation in response.conversations]


async def test_a_conversation_is_found_by_title_and_by_what_was_said(stub: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "search", "user-1"):
        run = (await stub.RunAgent(pb.RunAgentRequest(message="Plan my trip to Köln"))).run
        await stub.RunAgent(pb.RunAgentRequest(message="100% of what_ever"))
        renamed = pb.UpdateConversationRequest(id=run.conversation_id, title="Holiday")
        assert (await stub.UpdateConversation(renamed)).conversation.title == "Holiday"
        assert await _listed(stub, query="HOLIDAY") == ["Holiday"]
        assert await _listed(stub, query="my trip") == ["Holiday"], "found by its message"
        assert await _listed(stub, query="0% of") == ["100% of what_ever"]
        assert await _listed(stub, query="0_ of") == [], "signs of a pattern are plain text"
        assert await _listed(stub, query="nothing like it") == []


async def test_the_archive_keeps_conversations_out_of_sight(stub: Stub, keys: TestKeys) -> None:
    with as_somebody(keys, "archive", "user-1"):
        run = (await stub.RunAgent(pb.RunAgentRequest(message="hello"))).run
        put_away = pb.UpdateConversationRequest(id=run.conversation_id, archived=True)
        assert (await stub.UpdateConversation(put_away)).conversation.archived
        assert await _listed(stub) == []
        assert await _listed(stub, include_archived=True) == ["hello"]
        await stub.RunAgent(pb.RunAgentRequest(message="again", conversation_id=run.conversation_id))
        assert await _listed(stub) == ["hello"], "a new message brings it back"


async def test_a_deleted_conversation_is_gone_with_its_runs(stub: Stub, caller: Principal) -> None:
    run = (await stub.RunAgent(pb.RunAgentRequest(message="calculate and forget"))).run
    await stub.DeleteConversation(pb.DeleteConversationRequest(id=run.conversation_id))
    for call in (
        stub.GetConversation(pb.GetConversationRequest(id=run.conversation_id)),
        stub.GetRun(pb.GetRunRequest(id=run.id)),
    ):
        with pytest.raises(NotFound), translate_errors("agent"):
            await call


@pytest.mark.parametrize("title", ["", "   ", "x" * 201])
async def test_a_title_says_something(stub: Stub, caller: Principal, title: str) -> None:
    made = (await stub.CreateConversation(pb.CreateConversationRequest(title="old"))).conversation
    with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
        await stub.UpdateConversation(pb.UpdateConversationRequest(id=made.id, title=title))
    assert refused.value.metadata["field"] == "title"


async def test_nobody_else_changes_a_conversation(stub: Stub, caller: Principal, keys: TestKeys) -> None:
    made = (await stub.CreateConversation(pb.CreateConversationRequest(title="mine"))).conversation
    for tenant, person in (("other", "user-1"), ("default", "user-2")):
        with as_somebody(keys, tenant, person), pytest.raises(NotFound), translate_errors("agent"):
            await stub.UpdateConversation(pb.UpdateConversationRequest(id=made.id, title="theirs"))


async def test_a_long_conversation_has_a_running_brief(stub: Stub, keys: TestKeys, backend: FakeBackend) -> None:
    with as_somebody(keys, "brief", "user-1"):
        conversation_id = ""
        for number in range(6):
            asked = pb.RunAgentRequest(message=f"question {number}", conversation_id=conversation_id)
            conversation_id = (await stub.RunAgent(asked)).run.conversation_id
    told = backend.inference.instructions[-1]
    assert told.startswith("Earlier in this conversation:\nUser: question 0\nAssistant: The result is 42.")
    assert told.count("question") == 2, "three pairs are shown as they are"
    assert "question 4" not in told
