"""Composition root: one function builds everything, one lifespan closes it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from errand.rag.v1 import rag_pb2_grpc
from errand_common.db import Database
from errand_common.db import migrate as migrate_database
from errand_common.rpc.client import create_channel
from errand_common.rpc.server import Registration, RpcServer
from errand_common.tokens import TokenSigner, TokenVerifier

from errand_rag.clients.inference import CachingEmbedder, InferenceEmbedder, InferenceReranker
from errand_rag.clients.valkey import SharedCachingEmbedder, ValkeyVectors
from errand_rag.clients.web import GuardedWebFetcher
from errand_rag.domain.collections import CollectionService
from errand_rag.domain.deletion import DeletionService
from errand_rag.domain.documents import DocumentService
from errand_rag.domain.fetching import FetchService
from errand_rag.domain.ingestion import Ingestion, IngestionLimits
from errand_rag.domain.models import JobKind, Quota
from errand_rag.domain.ports import DocumentReader, Embedder, Reranker, VectorStore, WebFetcher
from errand_rag.domain.purging import Purger
from errand_rag.domain.reindexing import Reindexing
from errand_rag.domain.tokens import default_counter
from errand_rag.domain.worker import Worker, WorkerLimits
from errand_rag.parsers.process import ProcessReader, ReaderLimits
from errand_rag.settings import RagSettings
from errand_rag.storage.certificates import SqlCertificates
from errand_rag.storage.chroma import ChromaVectorStore
from errand_rag.storage.collections import SqlCollections
from errand_rag.storage.documents import SqlDocuments
from errand_rag.storage.jobs import SqlJobs
from errand_rag.storage.passages import SqlPassages
from errand_rag.storage.pgvector import PgVectorStore, install_extension
from errand_rag.storage.scrubbing import SqlScrubber
from errand_rag.telemetry import ObservedCache, ObservedSearch, count_embeddings, observed_ingestion
from errand_rag.transport.servicer import RagServicer
from errand_rag.transport.uploads import UploadReader

SCHEMA = "errand_rag"
SERVICE_NAME = "errand.rag.v1.RagService"
_MIGRATIONS = "errand_rag.storage.migrations"


@dataclass(frozen=True, slots=True)
class RagApp:
    """The service's parts that others hold on to."""

    servicer: RagServicer
    worker: Worker
    database: Database
    vectors: VectorStore
    documents: SqlDocuments


def migrate(settings: RagSettings) -> None:
    """Brings the database to the newest version."""
    migrate_database(settings.database("rag"), package=_MIGRATIONS, schema=SCHEMA)
    if settings.vector_store == "pgvector":
        install_extension(settings.database("rag"), schema=SCHEMA)


def open_database(settings: RagSettings) -> Database:
    """The service's database; on SQLite deleted text is overwritten, not only unlinked."""
    database = Database(settings.database("rag"), schema=SCHEMA)
    if not database.is_postgres:

        @sa.event.listens_for(database.engine.sync_engine, "connect")
        def overwrite_deleted(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA secure_delete=ON")
            cursor.close()

    return database


def build(
    settings: RagSettings,
    *,
    database: Database,
    vectors: VectorStore,
    embedder: Embedder,
    reranker: Reranker,
    reader: DocumentReader,
    fetcher: WebFetcher,
    shared: ValkeyVectors | None = None,
) -> RagApp:
    """Wires the use cases to what they need."""
    owner = settings.worker_name
    if shared is not None:
        embedder = SharedCachingEmbedder(embedder, shared, on_lookup=count_embeddings)
    cached = CachingEmbedder(embedder, max_entries=settings.embedding_cache_entries)
    collections = SqlCollections(database, owner=owner)
    documents = SqlDocuments(database, owner=owner)
    jobs = SqlJobs(database)
    certificates = SqlCertificates(database)
    cache = ObservedCache(max_entries=settings.query_cache_entries)
    purger = Purger(
        collections,
        jobs,
        vectors,
        SqlScrubber(database),
        caches=(cache, cached),
        shared_caches=() if shared is None else (shared,),
        owner=owner,
    )
    ingestion = Ingestion(
        collections=collections,
        documents=documents,
        reader=reader,
        counter=default_counter(),
        embedder=cached,
        vectors=vectors,
        purger=purger,
        limits=IngestionLimits(
            max_pages=settings.max_pages,
            max_characters=settings.max_document_characters,
            max_chunks=settings.max_document_chunks,
            embed_batch=settings.embed_batch,
        ),
    )
    passages = SqlPassages(database)
    reindexing = Reindexing(
        collections=collections,
        jobs=jobs,
        passages=passages,
        certificates=certificates,
        vectors=vectors,
        embedder=embedder,
        counter=default_counter(),
        batch=settings.embed_batch,
        owner=owner,
    )
    worker = Worker(
        jobs=jobs,
        documents=documents,
        handlers={
            JobKind.INGEST: observed_ingestion(ingestion.run),
            JobKind.PURGE_DOCUMENT: purger.run,
            JobKind.PURGE_COLLECTION: purger.run,
            JobKind.REINDEX: reindexing.run,
            JobKind.RECONCILE: reindexing.repair,
            JobKind.SWEEP_INDEX: purger.sweep,
        },
        when_idle=purger.scrub_if_needed,
        owner=owner,
        limits=WorkerLimits(
            concurrency=settings.worker_concurrency,
            lease_seconds=settings.worker_lease_seconds,
            max_attempts=settings.worker_max_attempts,
        ),
    )
    document_service = DocumentService(
        collections,
        documents,
        on_stored=worker.notify,
        quota=Quota(documents=settings.max_documents, bytes=settings.max_tenant_bytes),
    )
    servicer = RagServicer(
        collections=CollectionService(collections, max_collections=settings.max_collections),
        documents=document_service,
        search=ObservedSearch(
            collections=collections,
            passages=passages,
            vectors=vectors,
            embedder=cached,
            reranker=reranker,
            cache=cache,
        ),
        uploads=UploadReader(
            document_service,
            max_bytes=settings.max_document_bytes,
            max_concurrent=settings.max_concurrent_uploads,
        ),
        fetching=FetchService(document_service, fetcher, max_concurrent=settings.max_concurrent_uploads),
        deletion=DeletionService(
            collections=collections,
            documents=documents,
            certificates=certificates,
            vectors=vectors,
            purger=purger,
            cache=cache,
        ),
        reindexing=reindexing,
        on_stored=worker.notify,
    )
    return RagApp(servicer, worker, database, vectors, documents)


@asynccontextmanager
async def resources(settings: RagSettings) -> AsyncIterator[RagApp]:
    """Opens database, vectors, reader processes and channel; closes them in reverse."""
    async with AsyncExitStack() as stack:
        database = open_database(settings)
        stack.push_async_callback(database.close)
        vectors = open_vector_store(settings)
        stack.push_async_callback(vectors.close)
        reader = ProcessReader(
            ReaderLimits(
                timeout_seconds=settings.read_timeout_seconds,
                memory_bytes=settings.read_memory_bytes,
                processes=max(1, settings.worker_concurrency),
            )
        )
        stack.push_async_callback(reader.close)
        fetcher = open_fetcher(settings)
        stack.push_async_callback(fetcher.close)
        channel = await stack.enter_async_context(create_channel(settings.inference_target))
        embedder = InferenceEmbedder(channel, _signer(settings), timeout_seconds=settings.embed_timeout_seconds)
        shared = open_shared_cache(settings)
        if shared is not None:
            stack.push_async_callback(shared.close)
        yield build(
            settings,
            database=database,
            vectors=vectors,
            embedder=embedder,
            reranker=InferenceReranker(channel, timeout_seconds=settings.rerank_timeout_seconds),
            reader=reader,
            fetcher=fetcher,
            shared=shared,
        )


@asynccontextmanager
async def running(settings: RagSettings, app: RagApp) -> AsyncIterator[int]:
    """Serves and works while the block runs; gives the port."""
    registration = Registration(rag_pb2_grpc.add_RagServiceServicer_to_server, app.servicer, SERVICE_NAME)
    server = RpcServer(settings, TokenVerifier(settings.jwks), [registration])
    port = await server.start()
    try:
        await app.database.ping()
        await app.worker.start()
        await server.set_serving(True)
        yield port
    finally:
        await server.stop(settings.drain_seconds)
        await app.worker.stop()


def open_vector_store(settings: RagSettings) -> ChromaVectorStore | PgVectorStore:
    """The store that the settings name; its caller closes it."""
    if settings.vector_store == "pgvector":
        return PgVectorStore(Database(settings.database("rag"), schema=SCHEMA))
    if settings.chroma_url is not None:
        return ChromaVectorStore.server(str(settings.chroma_url))
    return ChromaVectorStore.embedded(settings.chroma_folder)


def open_shared_cache(settings: RagSettings) -> ValkeyVectors | None:
    """Where replicas remember vectors together, if anywhere; its caller closes it."""
    if settings.embedding_cache_url is None:
        return None
    url = settings.embedding_cache_url.get_secret_value()
    return ValkeyVectors(url, ttl_seconds=settings.embedding_cache_ttl_seconds)


def open_fetcher(settings: RagSettings) -> GuardedWebFetcher:
    """What fetches documents by URL; its caller closes it."""
    return GuardedWebFetcher(
        settings.fetch_reach, max_bytes=settings.max_document_bytes, timeout_seconds=settings.fetch_timeout_seconds
    )


def _signer(settings: RagSettings) -> TokenSigner:
    if settings.signing_key_file is None:
        raise ValueError("the signing key file is not set")
    return TokenSigner.from_pem(settings.signing_key_file.read_bytes(), issuer="errand-rag")
