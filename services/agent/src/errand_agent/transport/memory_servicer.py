"""MemoryService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from datetime import UTC
from typing import Any

from errand.agent.v1 import memory_pb2 as pb
from errand.agent.v1 import memory_pb2_grpc

from errand_agent.domain.memory import Fact
from errand_agent.transport.convert import timestamp
from errand_agent.use_cases.memory import MemoryUseCases


class MemoryServicer(memory_pb2_grpc.MemoryServiceServicer):
    """Serves facts."""

    def __init__(self, memory: MemoryUseCases) -> None:
        self._memory = memory

    async def InsertFact(self, request: pb.InsertFactRequest, context: Any) -> pb.InsertFactResponse:
        """Keeps a fact."""
        kept, merged = await self._memory.insert(_given(request.fact))
        return pb.InsertFactResponse(fact=_fact(kept), merged=merged)

    async def QueryFacts(self, request: pb.QueryFactsRequest, context: Any) -> pb.QueryFactsResponse:
        """Best first."""
        found = await self._memory.query(
            text=request.query,
            key=request.key,
            agent=request.agent,
            conversation_id=request.conversation_id,
            top_k=request.top_k,
            min_similarity=request.min_similarity,
        )
        matches = [pb.FactMatch(fact=_fact(match.fact), similarity=match.similarity) for match in found]
        return pb.QueryFactsResponse(matches=matches)

    async def ListFacts(self, request: pb.ListFactsRequest, context: Any) -> pb.ListFactsResponse:
        """Newest first."""
        found, more = await self._memory.page(request.page.page_size, request.page.page_token)
        return pb.ListFactsResponse(facts=[_fact(fact) for fact in found], next_page_token=more)

    async def DeleteFact(self, request: pb.DeleteFactRequest, context: Any) -> pb.DeleteFactResponse:
        """Forgets a fact."""
        await self._memory.delete(request.id)
        return pb.DeleteFactResponse()

    async def EraseFacts(self, request: pb.EraseFactsRequest, context: Any) -> pb.EraseFactsResponse:
        """Forgets all of a person's."""
        return pb.EraseFactsResponse(erased=await self._memory.erase(request.principal_id))


def _given(message: pb.Fact) -> Fact:
    return Fact(
        text=message.text,
        key=message.key,
        agent=message.agent,
        conversation_id=message.conversation_id,
        message_id=message.message_id,
        expires_at=message.expires_at.ToDatetime(UTC) if message.HasField("expires_at") else None,
    )


def _fact(fact: Fact) -> pb.Fact:
    return pb.Fact(
        id=fact.id,
        text=fact.text,
        key=fact.key,
        agent=fact.agent,
        conversation_id=fact.conversation_id,
        message_id=fact.message_id,
        count=fact.count,
        expires_at=timestamp(fact.expires_at) if fact.expires_at else None,
        created_at=timestamp(fact.created_at) if fact.created_at else None,
        updated_at=timestamp(fact.updated_at) if fact.updated_at else None,
    )
