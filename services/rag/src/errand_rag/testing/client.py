"""A small client of the service, for tests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import grpc
from errand.rag.v1 import rag_pb2, rag_pb2_grpc
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.tokens import TokenSigner

_PART_BYTES = 256 * 1024
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class RagClient:
    """Calls as one principal; errors come back as ErrandError."""

    channel: grpc.aio.Channel
    principal: Principal
    signer: TokenSigner

    # An object for each method: too dear to be made for every call.
    @cached_property
    def _stub(self) -> "rag_pb2_grpc.RagServiceAsyncStub":
        return rag_pb2_grpc.RagServiceStub(self.channel)

    @contextmanager
    def calling(self) -> Iterator["rag_pb2_grpc.RagServiceAsyncStub"]:
        """The stub, with the principal's token."""
        with acting_as(self.principal, signer=self.signer), translate_errors("rag"):
            yield self._stub

    async def collection(self, name: str, *, chunk_tokens: int = 0, overlap_tokens: int = 0) -> rag_pb2.Collection:
        """Makes a collection."""
        wanted = rag_pb2.Collection(name=name, chunk_tokens=chunk_tokens, chunk_overlap_tokens=overlap_tokens)
        request = rag_pb2.CreateCollectionRequest(collection=wanted)
        with self.calling() as stub:
            return (await stub.CreateCollection(request)).collection

    async def upload(self, collection: str, filename: str, content: bytes | str) -> rag_pb2.UploadDocumentResponse:
        """Uploads a document in parts."""
        data = content.encode() if isinstance(content, str) else content

        async def parts() -> AsyncIterator[rag_pb2.UploadDocumentRequest]:
            header = rag_pb2.UploadHeader(collection_id=collection, filename=filename)
            yield rag_pb2.UploadDocumentRequest(header=header)
            for start in range(0, len(data), _PART_BYTES):
                yield rag_pb2.UploadDocumentRequest(data=data[start : start + _PART_BYTES])

        with self.calling() as stub:
            return await stub.UploadDocument(parts())

    async def document(self, document_id: str) -> rag_pb2.Document:
        """One document."""
        with self.calling() as stub:
            return (await stub.GetDocument(rag_pb2.GetDocumentRequest(id=document_id))).document

    async def settled(self, document_id: str, *, timeout_seconds: float = 30) -> rag_pb2.Document:
        """The document once it is READY or FAILED. Raises TimeoutError."""
        ended = (rag_pb2.DOCUMENT_STATE_READY, rag_pb2.DOCUMENT_STATE_FAILED)
        async with asyncio.timeout(timeout_seconds):
            while (document := await self.document(document_id)).state not in ended:  # noqa: ASYNC110 - it changes elsewhere
                await asyncio.sleep(_POLL_SECONDS)
        return document

    async def proven(self, certificate_id: str, *, timeout_seconds: float = 30) -> rag_pb2.DeletionCertificate:
        """The certificate once none of its proofs is pending. Raises TimeoutError."""
        request = rag_pb2.GetDeletionCertificateRequest(id=certificate_id)
        async with asyncio.timeout(timeout_seconds):
            while True:
                with self.calling() as stub:
                    certificate = (await stub.GetDeletionCertificate(request)).certificate
                if not any(proof.pending for proof in certificate.proofs):
                    return certificate
                await asyncio.sleep(_POLL_SECONDS)

    async def ingest(self, collection: str, filename: str, content: bytes | str) -> rag_pb2.Document:
        """Uploads and waits until the document is READY or FAILED."""
        return await self.settled((await self.upload(collection, filename, content)).document.id)

    async def search(
        self,
        query: str,
        *collections: str,
        mode: rag_pb2.SearchMode = rag_pb2.SEARCH_MODE_HYBRID,
        top_k: int = 0,
        min_similarity: float = 0.0,
    ) -> rag_pb2.SearchResponse:
        """Finds passages."""
        request = rag_pb2.SearchRequest(
            query=query, collection_ids=collections, mode=mode, top_k=top_k, min_similarity=min_similarity
        )
        with self.calling() as stub:
            return await stub.Search(request)
