"""Vectors are stored beside the embedding of what comes next."""

import asyncio
from collections.abc import Sequence

from errand.rag.v1 import rag_pb2
from errand_common.testing.keys import TestKeys
from errand_rag.domain.models import Embeddings, VectorEntry
from errand_rag.settings import RagSettings
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag
from errand_rag.testing.vectors import InMemoryVectorStore

LONG = "The blue whale sings in the deep. " * 400


class SlowStore(InMemoryVectorStore):
    """Stores the first batch when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.batches = asyncio.Event(), 0

    async def upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        self.batches += 1
        if self.batches == 1:
            await self.free.wait()
        await super().upsert(collection_id, entries)


class Heard(HashingEmbedder):
    """Tells when a second batch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = asyncio.Event()

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        if self.calls:
            self.twice.set()
        return await super().embed(texts, model=model)


async def test_a_batch_is_embedded_while_the_one_before_is_stored(settings: RagSettings, keys: TestKeys) -> None:
    vectors, embedder = SlowStore(), Heard()
    chosen = RagSettings(**{**settings.model_dump(), "embed_batch": 2})
    async with serving_rag(chosen, keys, embedder=embedder, vectors=vectors) as client:
        await client.collection("shelf")
        whale = (await client.upload("shelf", "whale.txt", LONG)).document
        await embedder.twice.wait()
        assert vectors.batches == 1, "and no second one is stored beside it"
        vectors.free.set()
        ready = await client.settled(whale.id)
        assert ready.state == rag_pb2.DOCUMENT_STATE_READY
        assert await vectors.count_document(ready.collection_id, whale.id) == ready.chunk_count > 4
