"""A vector store in memory: exact, and gone with the process."""

from collections.abc import Collection, Sequence

import numpy as np

from errand_rag.domain.models import Vector, VectorEntry, VectorMatch, collection_of
from errand_rag.storage.similarity import cosines


class InMemoryVectorStore:
    """The vector store port on dictionaries. `fault`, when set, is raised by every call."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, VectorEntry]] = {}
        self.fault: Exception | None = None

    async def upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        """Stores the entries; same chunk id replaces."""
        stored = self._entries(collection_id, make=True)
        stored.update({entry.chunk_id: entry for entry in entries})

    async def query(
        self, collection_id: str, vector: Vector, limit: int, *, documents: Collection[str] | None = None
    ) -> list[VectorMatch]:
        """The nearest, of these documents when they are given, best first; none when there are none."""
        stored = self._entries(collection_id).items()
        ids = [id_ for id_, entry in stored if documents is None or entry.document_id in documents]
        found = await self.similarities(collection_id, vector, ids)
        nearest = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        return [VectorMatch(chunk_id=id_, similarity=value) for id_, value in nearest]

    async def similarities(self, collection_id: str, vector: Vector, chunk_ids: Sequence[str]) -> dict[str, float]:
        """Cosine similarity of the chunks that are stored."""
        entries = self._entries(collection_id)
        there = [id_ for id_ in chunk_ids if id_ in entries]
        stored = np.asarray([entries[id_].vector for id_ in there], dtype=np.float32)
        return dict(zip(there, cosines(stored, vector), strict=True))

    async def fetch(self, collection_id: str, chunk_ids: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the chunks that are stored."""
        entries = self._entries(collection_id)
        return {id_: entries[id_].vector for id_ in chunk_ids if id_ in entries}

    async def existing(self, collection_id: str, chunk_ids: Sequence[str]) -> set[str]:
        """Which of the chunks have a vector."""
        return set(chunk_ids) & self._entries(collection_id).keys()

    async def chunk_documents(self, collection_id: str) -> dict[str, str]:
        """The document of every chunk that is stored."""
        return {id_: entry.document_id for id_, entry in self._entries(collection_id).items()}

    async def delete_chunks(self, collection_id: str, chunk_ids: Sequence[str]) -> None:
        """Removes these chunks' vectors; nothing to remove is fine."""
        entries = self._entries(collection_id)
        for id_ in chunk_ids:
            entries.pop(id_, None)

    async def compact(self) -> None:
        """Nothing to give back."""

    async def count_document(self, collection_id: str, document_id: str) -> int:
        """Vectors of one document."""
        return sum(entry.document_id == document_id for entry in self._entries(collection_id).values())

    async def delete_document(self, collection_id: str, document_id: str) -> None:
        """Removes a document's vectors; nothing to remove is fine."""
        entries = self._entries(collection_id)
        for id_ in [id_ for id_, entry in entries.items() if entry.document_id == document_id]:
            del entries[id_]

    async def drop(self, collection_id: str) -> None:
        """Removes the collection's index; nothing to remove is fine."""
        self._raise_fault()
        self._collections.pop(collection_id, None)

    async def count(self, collection_id: str) -> int:
        """Vectors in the collection."""
        return len(self._entries(collection_id))

    async def indexes(self, collection_ids: Collection[str]) -> frozenset[str]:
        """Names of all generations of these collections' indexes that are stored."""
        self._raise_fault()
        return frozenset(name for name in self._collections if collection_of(name) in collection_ids)

    async def ping(self) -> None:
        """Raises `fault`."""
        self._raise_fault()

    async def close(self) -> None:
        """Nothing to close."""

    def _entries(self, collection_id: str, *, make: bool = False) -> dict[str, VectorEntry]:
        self._raise_fault()
        if make:
            return self._collections.setdefault(collection_id, {})
        return self._collections.get(collection_id, {})

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault
