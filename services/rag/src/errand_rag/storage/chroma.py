"""Vectors in Chroma: embedded under the data directory, or a server.

One Chroma collection per Errand collection: a search reads only what it asks for, and deleting a
collection gives its disk space back, which deleting single vectors in Chroma does not.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from collections.abc import Collection as Group
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import chromadb
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection as ChromaCollection
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import ChromaError
from chromadb.errors import NotFoundError as ChromaNotFound
from errand_common.errors import Unavailable

from errand_rag.domain.models import Vector, VectorEntry, VectorMatch, collection_of
from errand_rag.storage.similarity import bounded, cosines

_logger = getLogger(__name__)
_T = TypeVar("_T")

_MAX_BATCH = 1000
_SERVER_THREADS = 8
_MAX_HANDLES = 256
# A wider graph than Chroma's own (ef 100, 16 neighbours): recall over build time. In it a wider search than Chroma's
# finds nothing more: of 100,000 vectors 0.988 of the ten nearest with 100 and with 200, in two thirds of the time.
_INDEX = {"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 100, "max_neighbors": 24}}


class ChromaVectorStore:
    """The vector store port on Chroma. Made by `embedded` or `server`; closed by `close`."""

    def __init__(self, connect: Callable[[], ClientAPI], *, threads: int, file: Path | None = None) -> None:
        self._file = file
        self._connect = connect
        # The persistent client belongs to one thread; calls queue for it.
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="chroma")
        self._client: ClientAPI | None = None
        self._handles: OrderedDict[str, ChromaCollection] = OrderedDict()

    @classmethod
    def embedded(cls, folder: Path) -> "ChromaVectorStore":
        """Files in a folder that no other process opens."""

        def connect() -> ClientAPI:
            folder.mkdir(parents=True, exist_ok=True)
            return chromadb.PersistentClient(path=str(folder), settings=ChromaSettings(anonymized_telemetry=False))

        return cls(connect, threads=1, file=folder / "chroma.sqlite3")

    @classmethod
    def server(cls, url: str) -> "ChromaVectorStore":
        """A Chroma server at an http or https URL."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"

        def connect() -> ClientAPI:
            return chromadb.HttpClient(
                host=parts.hostname or "localhost",
                port=parts.port or (443 if secure else 8000),
                ssl=secure,
                settings=ChromaSettings(anonymized_telemetry=False),
            )

        return cls(connect, threads=_SERVER_THREADS)

    async def upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        """Stores the entries; same chunk id replaces."""
        for start in range(0, len(entries), _MAX_BATCH):
            batch = entries[start : start + _MAX_BATCH]
            await self._call(partial(self._upsert, collection_id, batch))

    def _upsert(self, collection_id: str, entries: Sequence[VectorEntry]) -> None:
        self._handle_or_new(collection_id).upsert(
            ids=[entry.chunk_id for entry in entries],
            embeddings=np.asarray([entry.vector for entry in entries], dtype=np.float32),
            metadatas=[{"document_id": entry.document_id} for entry in entries],
        )

    async def query(
        self, collection_id: str, vector: Vector, limit: int, *, documents: Group[str] | None = None
    ) -> list[VectorMatch]:
        """The nearest, of these documents when they are given, best first; none when there are none."""
        if documents is not None and not documents:
            return []
        return await self._call(lambda: self._query(collection_id, vector, limit, documents), missing=[])

    def _query(self, collection_id: str, vector: Vector, limit: int, documents: Group[str] | None) -> list[VectorMatch]:
        where: Any = None if documents is None else {"document_id": {"$in": sorted(documents)}}
        found = self._handle(collection_id).query(
            query_embeddings=np.asarray([vector], dtype=np.float32),
            n_results=limit,
            where=where,
            include=["distances"],
        )
        distances = (found["distances"] or [[]])[0]
        return [
            VectorMatch(chunk_id=id_, similarity=bounded(1.0 - float(distance)))
            for id_, distance in zip(found["ids"][0], distances, strict=True)
        ]

    async def similarities(self, collection_id: str, vector: Vector, chunk_ids: Sequence[str]) -> dict[str, float]:
        """Cosine similarity of the chunks that are stored."""
        return await self._call(lambda: self._similarities(collection_id, vector, chunk_ids), missing={})

    def _similarities(self, collection_id: str, vector: Vector, chunk_ids: Sequence[str]) -> dict[str, float]:
        found = self._handle(collection_id).get(ids=list(chunk_ids), include=["embeddings"])
        stored = np.asarray(found["embeddings"], dtype=np.float32)
        return dict(zip(found["ids"], cosines(stored, vector), strict=True))

    async def fetch(self, collection_id: str, chunk_ids: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the chunks that are stored."""
        return await self._call(lambda: self._fetch(collection_id, chunk_ids), missing={})

    def _fetch(self, collection_id: str, chunk_ids: Sequence[str]) -> dict[str, Vector]:
        found = self._handle(collection_id).get(ids=list(chunk_ids), include=["embeddings"])
        stored = np.asarray(found["embeddings"], dtype=np.float32)
        return dict(zip(found["ids"], stored.tolist(), strict=True))

    async def existing(self, collection_id: str, chunk_ids: Sequence[str]) -> set[str]:
        """Which of the chunks have a vector."""
        return await self._call(
            lambda: set(self._handle(collection_id).get(ids=list(chunk_ids), include=[])["ids"]),
            missing=set(),
        )

    async def chunk_documents(self, collection_id: str) -> dict[str, str]:
        """The document of every chunk that is stored."""
        found: dict[str, str] = {}
        nothing: dict[str, str] = {}
        while page := await self._call(partial(self._page, collection_id, len(found)), missing=nothing):
            found |= page
        return found

    def _page(self, collection_id: str, offset: int) -> dict[str, str]:
        page = self._handle(collection_id).get(offset=offset, limit=_MAX_BATCH, include=["metadatas"])
        pairs = zip(page["ids"], page["metadatas"] or [], strict=True)
        return {id_: str(metadata["document_id"]) for id_, metadata in pairs}

    async def delete_chunks(self, collection_id: str, chunk_ids: Sequence[str]) -> None:
        """Removes these chunks' vectors; nothing to remove is fine."""
        for start in range(0, len(chunk_ids), _MAX_BATCH):
            ids = list(chunk_ids[start : start + _MAX_BATCH])
            await self._call(partial(self._delete_chunks, collection_id, ids), missing=None)

    def _delete_chunks(self, collection_id: str, ids: list[str]) -> None:
        self._handle(collection_id).delete(ids=ids)

    async def compact(self) -> None:
        """Rewrites the embedded store's database, which keeps deleted rows; a server does its own."""
        if self._file is not None:
            await self._call(partial(_vacuum, self._file))

    async def count_document(self, collection_id: str, document_id: str) -> int:
        """Vectors of one document."""
        return await self._call(lambda: self._count_document(collection_id, document_id), missing=0)

    def _count_document(self, collection_id: str, document_id: str) -> int:
        return len(self._handle(collection_id).get(where={"document_id": document_id}, include=[])["ids"])

    async def delete_document(self, collection_id: str, document_id: str) -> None:
        """Removes a document's vectors; nothing to remove is fine."""
        await self._call(lambda: self._delete_document(collection_id, document_id), missing=None)

    def _delete_document(self, collection_id: str, document_id: str) -> None:
        self._handle(collection_id).delete(where={"document_id": document_id})

    async def drop(self, collection_id: str) -> None:
        """Removes the collection's index; nothing to remove is fine."""
        await self._call(lambda: self._drop(collection_id), missing=None)

    def _drop(self, collection_id: str) -> None:
        self._handles.pop(collection_id, None)
        self._opened().delete_collection(collection_id)

    async def count(self, collection_id: str) -> int:
        """Vectors in the collection."""
        return await self._call(lambda: int(self._handle(collection_id).count()), missing=0)

    async def indexes(self, collection_ids: Group[str]) -> frozenset[str]:
        """Names of all generations of these collections' indexes that are stored."""
        return frozenset(name for name in await self._call(self._names) if collection_of(name) in collection_ids)

    def _names(self) -> list[str]:
        client = self._opened()
        starts = range(0, client.count_collections(), _MAX_BATCH)
        pages = (client.list_collections(limit=_MAX_BATCH, offset=start) for start in starts)
        return [collection.name for page in pages for collection in page]

    async def ping(self) -> None:
        """Raises Unavailable when the store cannot answer."""
        await self._call(lambda: self._opened().heartbeat())

    async def close(self) -> None:
        """Waits for the calls under way and ends the threads."""
        await asyncio.to_thread(self._executor.shutdown)

    async def _call(self, work: Callable[[], _T], **default: _T) -> _T:
        """Runs on Chroma's own thread; a collection that is not there gives `missing`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work)
        except ChromaNotFound:
            # Dropped and made anew elsewhere: the handles may point at what is gone.
            self._handles.clear()
            if "missing" in default:
                return default["missing"]
            raise Unavailable("chroma") from None
        except (ChromaError, OSError, ValueError, RuntimeError, sqlite3.Error) as error:
            self._client = None
            self._handles.clear()
            _logger.warning("chroma: call failed", exc_info=error)
            raise Unavailable("chroma") from error
        except Exception as error:
            # The HTTP client raises its transport's own errors, the embedded one its core's.
            _logger.exception("chroma: call failed")
            raise Unavailable("chroma") from error

    def _opened(self) -> ClientAPI:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _handle(self, collection_id: str) -> ChromaCollection:
        """Raises ChromaNotFound."""
        return self._remembered(
            collection_id,
            lambda: self._opened().get_collection(collection_id, embedding_function=None),
        )

    def _handle_or_new(self, collection_id: str) -> ChromaCollection:
        configuration: Any = _INDEX
        return self._remembered(
            collection_id,
            lambda: self._opened().get_or_create_collection(
                collection_id, embedding_function=None, configuration=configuration
            ),
        )

    def _remembered(self, collection_id: str, find: Callable[[], ChromaCollection]) -> ChromaCollection:
        handle = self._handles.get(collection_id)
        if handle is None:
            handle = self._handles[collection_id] = find()
            while len(self._handles) > _MAX_HANDLES:
                self._handles.popitem(last=False)
        return handle


def _vacuum(file: Path) -> None:
    if not file.exists():
        return
    connection = sqlite3.connect(file, timeout=5.0)
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
