"""A Chroma server that is killed while a document is ingested, and comes back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from errand.rag.v1 import rag_pb2
from errand_common.testing.keys import TestKeys, free_port
from errand_rag.domain.models import Embeddings
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.testing.chroma import chroma_server
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag

PASSAGES, BATCH = 40, 4


class PausingEmbedder(HashingEmbedder):
    """Stops before a passage's batch once three are made, until `go_on` is set."""

    def __init__(self) -> None:
        super().__init__(64)
        self.paused, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        if self.calls == 3:
            self.paused.set()
            await self.go_on.wait()
        return await super().embed(texts, model=model)


async def stored_so_far(vectors: ChromaVectorStore, collection_id: str, count: int) -> None:
    """Waits until so many are stored: the batch before is, while the next one is embedded. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while await vectors.count(collection_id) < count:  # noqa: ASYNC110 - it changes elsewhere
            await asyncio.sleep(0.02)


async def test_ingestion_goes_on_where_it_stopped(settings: RagSettings, keys: TestKeys, tmp_path: Path) -> None:
    port, embedder = free_port(), PausingEmbedder()
    vectors = ChromaVectorStore.server(f"http://127.0.0.1:{port}")
    settings = RagSettings(**{**settings.model_dump(), "embed_batch": BATCH})
    text = "\n\n".join(f"# Part {n}\n\nPassage {n} tells of whales." for n in range(PASSAGES))
    async with serving_rag(settings, keys, embedder=embedder, vectors=vectors) as client:
        await client.collection("shelf")
        with chroma_server(port, tmp_path / "chroma"):
            stored = (await client.upload("shelf", "long.md", text)).document
            await asyncio.wait_for(embedder.paused.wait(), 60)
            await stored_so_far(vectors, stored.collection_id, 3 * BATCH)
        embedder.go_on.set()
        assert (await client.document(stored.id)).state != rag_pb2.DOCUMENT_STATE_READY
        assert not (await client.search("whales", "shelf", mode=rag_pb2.SEARCH_MODE_KEYWORD)).hits
        with chroma_server(port, tmp_path / "chroma"):
            document = await client.settled(stored.id, timeout_seconds=120)
            assert (document.state, document.chunk_count) == (rag_pb2.DOCUMENT_STATE_READY, PASSAGES)
            assert await vectors.count(stored.collection_id) == PASSAGES
            found = await client.search("passage 7 whales", "shelf", mode=rag_pb2.SEARCH_MODE_VECTOR, top_k=50)
            assert len({hit.chunk_id for hit in found.hits}) == PASSAGES
