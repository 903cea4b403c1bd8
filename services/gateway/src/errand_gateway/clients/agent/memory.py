"""Facts that a person's agents know."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import memory_pb2 as pb
from errand.agent.v1.memory_pb2_grpc import MemoryServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain import memory as m
from errand_gateway.domain.resources import Page, PageQuery

if TYPE_CHECKING:
    from errand.agent.v1.memory_pb2_grpc import MemoryServiceAsyncStub


class GrpcMemoryBackend:
    """MemoryBackend on a channel; `call_seconds` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: MemoryServiceAsyncStub = MemoryServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def insert_fact(self, fact: m.Fact) -> m.KeptFact:
        """Keeps a fact of the caller."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.InsertFact(pb.InsertFactRequest(fact=_message(fact)), timeout=self._timeout)
        return m.KeptFact(_fact(response.fact), response.merged)

    async def query_facts(self, query: m.FactQuery) -> Sequence[m.FactMatch]:
        """The caller's facts, best first."""
        request = pb.QueryFactsRequest(
            query=query.query,
            key=query.key,
            agent=query.agent,
            conversation_id=query.conversation_id,
            top_k=query.top_k,
            min_similarity=query.min_similarity,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.QueryFacts(request, timeout=self._timeout)
        return [m.FactMatch(_fact(match.fact), match.similarity) for match in response.matches]

    async def list_facts(self, page: PageQuery) -> Page[m.Fact]:
        """The caller's facts, newest first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListFacts(
                pb.ListFactsRequest(page=convert.page_request(page)), timeout=self._timeout
            )
        return Page([_fact(fact) for fact in response.facts], response.next_page_token)

    async def delete_fact(self, fact_id: str) -> None:
        """Forgets a fact."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteFact(pb.DeleteFactRequest(id=fact_id), timeout=self._timeout)

    async def erase_facts(self, principal_id: str) -> int:
        """Forgets all facts of a person, of the caller when empty; how many."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.EraseFacts(
                pb.EraseFactsRequest(principal_id=principal_id), timeout=self._timeout
            )
        return response.erased


def _message(fact: m.Fact) -> pb.Fact:
    return pb.Fact(
        text=fact.text,
        key=fact.key,
        agent=fact.agent,
        conversation_id=fact.conversation_id,
        message_id=fact.message_id,
        expires_at=convert.timestamp(fact.expires_at),
    )


def _fact(message: pb.Fact) -> m.Fact:
    return m.Fact(
        text=message.text,
        key=message.key,
        agent=message.agent,
        conversation_id=message.conversation_id,
        message_id=message.message_id,
        expires_at=convert.moment(message, "expires_at"),
        id=message.id,
        count=message.count,
        created_at=convert.moment(message, "created_at"),
        updated_at=convert.moment(message, "updated_at"),
    )
