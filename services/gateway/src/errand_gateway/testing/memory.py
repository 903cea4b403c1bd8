# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's memory: facts match when they share a word with the query."""

from typing import Any

from errand.agent.v1 import memory_pb2 as pb
from errand.agent.v1 import memory_pb2_grpc
from errand_common.db import new_id, utc_now

from errand_gateway.testing.store import TenantStore, paged


class FakeMemory(memory_pb2_grpc.MemoryServiceServicer):
    """Keeps facts in memory; the same text again is merged."""

    def __init__(self) -> None:
        self._facts: TenantStore[pb.Fact] = TenantStore("fact")

    async def InsertFact(self, request: pb.InsertFactRequest, context: Any) -> pb.InsertFactResponse:
        """Keeps or counts."""
        for known in self._facts.all():
            if known.text == request.fact.text:
                known.count += 1
                return pb.InsertFactResponse(fact=known, merged=True)
        fact = pb.Fact(id=new_id("fact"), count=1)
        fact.MergeFrom(request.fact)
        fact.created_at.FromDatetime(utc_now())
        return pb.InsertFactResponse(fact=self._facts.add(fact.id, fact))

    async def QueryFacts(self, request: pb.QueryFactsRequest, context: Any) -> pb.QueryFactsResponse:
        """By key, or by a shared word."""
        words = set(request.query.lower().split())
        found = [
            fact
            for fact in self._facts.all()
            if (request.key and fact.key == request.key) or words & set(fact.text.lower().split())
        ]
        return pb.QueryFactsResponse(matches=[pb.FactMatch(fact=fact, similarity=1.0) for fact in found])

    async def ListFacts(self, request: pb.ListFactsRequest, context: Any) -> pb.ListFactsResponse:
        """Newest first."""
        rows, token = paged(reversed(self._facts.all()), request.page)
        return pb.ListFactsResponse(facts=rows, next_page_token=token)

    async def DeleteFact(self, request: pb.DeleteFactRequest, context: Any) -> pb.DeleteFactResponse:
        """Forgets one."""
        self._facts.pop(request.id)
        return pb.DeleteFactResponse()

    async def EraseFacts(self, request: pb.EraseFactsRequest, context: Any) -> pb.EraseFactsResponse:
        """Forgets all."""
        facts = self._facts.all()
        for fact in facts:
            self._facts.pop(fact.id)
        return pb.EraseFactsResponse(erased=len(facts))
