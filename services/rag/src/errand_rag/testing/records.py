"""Records for tests of the storage."""

import hashlib
from collections.abc import Sequence

from errand_rag.domain.filters import Filter
from errand_rag.domain.models import Chunk, Collection, IngestedDocument, NewCollection, Passage, ReadDocument, Upload
from errand_rag.domain.ports import Collections, Passages

MODEL = "model-a"


async def make_collection(collections: Collections, name: str, *, tenant: str = "acme") -> Collection:
    """A collection of default size."""
    new = NewCollection(name=name, chunk_tokens=200)
    return await collections.create(tenant, new, limit=100)


async def passages_with(
    passages: Passages, collection_ids: Sequence[str], terms: Sequence[str], limit: int, where: Filter | None = None
) -> list[Passage]:
    """What a keyword search of the tenant "acme" gives, best first."""
    found = await passages.by_keywords("acme", collection_ids, terms, limit, where)
    rows = await passages.by_ids("acme", collection_ids, found)
    return [rows[chunk_id] for chunk_id in found]


def upload_of(collection: Collection, filename: str, text: str) -> Upload:
    """An upload of a text."""
    content = text.encode()
    return Upload(
        collection_id=collection.id,
        filename=filename,
        content=content,
        content_hash=hashlib.sha256(content).hexdigest(),
    )


def ingested(document_id: str, *texts: str, heading: str = "", model: str = MODEL) -> IngestedDocument:
    """A finished ingestion whose passages are these texts."""
    clean, chunks = "", []
    for index, text in enumerate(texts):
        start = len(clean)
        clean += text + "\n\n"
        id_ = f"chk_{document_id}_{index}"
        chunks.append(Chunk(id_, index, text, start, start + len(text), heading, index + 1))
    read = ReadDocument(title="Title", media_type="text/plain", clean_text=clean.rstrip(), chunks=tuple(chunks))
    return IngestedDocument(document_id=document_id, read=read, embedding_model=model)
