"""The service over real gRPC, on a SQLite file and embedded Chroma."""

from collections.abc import AsyncIterator

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.testing.keys import TestKeys
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag


@pytest.fixture
async def client(settings: RagSettings, keys: TestKeys, embedder: HashingEmbedder) -> AsyncIterator[RagClient]:
    async with serving_rag(settings, keys, embedder=embedder) as client:
        yield client


async def test_an_uploaded_text_is_found_with_its_place(client: RagClient) -> None:
    await client.collection("handbook")
    text = (
        "# Travel\n\n## Trains\n\nBook the train two weeks ahead.\n\n## Hotels\n\nA hotel may cost 120 euros a night."
    )
    document = await client.ingest("handbook", "travel.md", text)
    assert document.state == rag_pb2.DOCUMENT_STATE_READY, document.failure
    assert (document.title, document.media_type, document.chunk_count) == ("Travel", "text/markdown", 2)

    answer = await client.search("how much may a hotel cost", "handbook")

    assert not answer.degraded
    hit = answer.hits[0]
    assert hit.text == "A hotel may cost 120 euros a night."
    assert (hit.heading, hit.title, hit.filename) == ("Hotels", "Travel", "travel.md")
    assert 0.3 < hit.similarity <= 1
