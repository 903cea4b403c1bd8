"""The rag service as the domain's Retriever."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from errand.rag.v1 import rag_pb2 as pb
from errand.rag.v1 import rag_pb2_grpc
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_agent.domain.ports import Passage

# Long enough for a service that is just starting again, and then the run goes on without its documents.
_SEARCH_SECONDS = 5.0


class RagRetriever:
    """Searches the tenant's documents."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rag_pb2_grpc.RagServiceStub(channel)

    async def find(self, query: str, *, collections: Sequence[str], top_k: int, min_similarity: float) -> list[Passage]:
        """Passages, best first."""
        request = pb.SearchRequest(collection_ids=collections, query=query, top_k=top_k, min_similarity=min_similarity)
        with translate_errors("rag"):
            response = await self._stub.Search(request, timeout=deadline_seconds(_SEARCH_SECONDS), wait_for_ready=True)
        return [_passage(hit) for hit in response.hits]

    async def check_collections(self, names: Sequence[str]) -> None:
        """Raises NotFound for one that does not exist."""
        for name in names:
            with translate_errors("rag"):
                request = pb.GetCollectionRequest(id=name)
                await self._stub.GetCollection(request, timeout=deadline_seconds(_SEARCH_SECONDS))


def _passage(hit: pb.SearchHit) -> Passage:
    return Passage(
        hit.chunk_id,
        hit.document_id,
        hit.title,
        hit.text,
        hit.similarity,
        hit.page if hit.HasField("page") else None,
        hit.start_offset,
        hit.end_offset,
    )
