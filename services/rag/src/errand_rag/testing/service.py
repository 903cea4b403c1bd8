"""The whole service in this process, on real gRPC, with the ports that a test wants to replace."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys, principal

from errand_rag import app
from errand_rag.domain.ports import DocumentReader, Embedder, Reranker
from errand_rag.parsers.process import ProcessReader, ReaderLimits
from errand_rag.settings import RagSettings
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.pgvector import PgVectorStore
from errand_rag.testing.client import RagClient
from errand_rag.testing.reranker import WordReranker
from errand_rag.testing.vectors import InMemoryVectorStore


@asynccontextmanager
async def serving_rag(
    settings: RagSettings,
    keys: TestKeys,
    *,
    embedder: Embedder,
    vectors: ChromaVectorStore | PgVectorStore | InMemoryVectorStore | None = None,
    reader: DocumentReader | None = None,
    reranker: Reranker | None = None,
) -> AsyncIterator[RagClient]:
    """A migrated, serving service; gives a client of the tenant "default"."""
    app.migrate(settings)
    async with AsyncExitStack() as stack:
        database = app.open_database(settings)
        stack.push_async_callback(database.close)
        store = vectors if vectors is not None else app.open_vector_store(settings)
        stack.push_async_callback(store.close)
        if reader is None:
            processes = ProcessReader(ReaderLimits(timeout_seconds=settings.read_timeout_seconds))
            stack.push_async_callback(processes.close)
            reader = processes
        fetcher = app.open_fetcher(settings)
        stack.push_async_callback(fetcher.close)
        shared = app.open_shared_cache(settings)
        if shared is not None:
            stack.push_async_callback(shared.close)
        built = app.build(
            settings,
            database=database,
            vectors=store,
            embedder=embedder,
            reranker=WordReranker() if reranker is None else reranker,
            reader=reader,
            fetcher=fetcher,
            shared=shared,
        )
        port = await stack.enter_async_context(app.running(settings, built))
        channel = await stack.enter_async_context(create_channel(f"127.0.0.1:{port}"))
        yield RagClient(channel, principal(), keys.signer)
