"""The tenant's documents, through the rag service."""

import grpc
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_tools.domain.ports import Passage

_SEARCH_SECONDS = 8.0


class RagKnowledgeBase:
    """Search over gRPC; the caller's token goes along, so the tenant is the caller's."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rag_pb2_grpc.RagServiceStub(channel)

    async def search(self, query: str, collection_ids: tuple[str, ...], limit: int) -> list[Passage]:
        """Passages, best first. Raises ErrandError when the service is away."""
        request = rag_pb2.SearchRequest(collection_ids=collection_ids, query=query, top_k=limit)
        with translate_errors("rag"):
            response = await self._stub.Search(request, timeout=deadline_seconds(_SEARCH_SECONDS))
        return [Passage(hit.title, hit.text) for hit in response.hits]
