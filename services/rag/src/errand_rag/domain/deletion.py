"""Deletes documents, collections, and all of a person or tenant, and proves that nothing is left."""

from collections.abc import Sequence
from dataclasses import replace

from errand_common.errors import InvalidArgument, NotFound, Unavailable
from errand_common.principal import Principal

from errand_rag.domain.access import check_writable, may_delete_data, may_use_documents
from errand_rag.domain.models import Certificate, Page, Proof, Traces
from errand_rag.domain.ports import Certificates, Collections, Documents, VectorStore
from errand_rag.domain.purging import Purger
from errand_rag.domain.query_cache import QueryCache


class DeletionService:
    """Every deletion has a certificate, stored before anything goes.

    Rows go at once, vectors too or as soon as their store answers; a certificate that is asked for
    before all is gone is proven anew. Methods raise NotFound and PermissionDenied.
    """

    def __init__(
        self,
        *,
        collections: Collections,
        documents: Documents,
        certificates: Certificates,
        vectors: VectorStore,
        purger: Purger,
        cache: QueryCache,
    ) -> None:
        self._collections = collections
        self._documents = documents
        self._certificates = certificates
        self._vectors = vectors
        self._purger = purger
        self._cache = cache

    async def delete_document(self, document_id: str) -> Certificate:
        """Deletes one document."""
        principal = may_use_documents()
        document = await self._documents.get(principal.tenant_id, document_id)
        check_writable(principal, await self._collections.get(principal.tenant_id, document.collection_id))
        certificate = await self._begin(principal, "document", document.id, document_id=document.id)
        await self._remove_documents(principal, certificate)
        return await self._prove(principal.tenant_id, certificate)

    async def delete_collection(self, name_or_id: str) -> Certificate:
        """Deletes a collection with all in it."""
        principal = may_use_documents()
        found = check_writable(principal, await self._collections.get(principal.tenant_id, name_or_id))
        certificate = await self._begin(principal, "collection", found.id, collection_ids=(found.id,))
        await self._remove_collections(principal, certificate)
        return await self._prove(principal.tenant_id, certificate)

    async def delete_tenant(self, tenant_id: str) -> Certificate:
        """Deletes every collection of the caller's tenant. Raises InvalidArgument for another's id."""
        principal = may_delete_data()
        if tenant_id != principal.tenant_id:
            raise InvalidArgument("tenant_id is not the tenant you act for; repeat its id", field="tenant_id")
        found = await self._collections.resolve(tenant_id, ())
        certificate = await self._begin(principal, "tenant", tenant_id, collection_ids=tuple(c.id for c in found))
        await self._remove_collections(principal, certificate)
        return await self._prove(tenant_id, certificate)

    async def delete_uploads_of(self, principal_id: str) -> Certificate:
        """Deletes every document that a principal of the tenant uploaded."""
        principal = may_delete_data()
        certificate = await self._begin(principal, "principal", principal_id, uploaded_by=principal_id)
        await self._remove_documents(principal, certificate)
        return await self._prove(principal.tenant_id, certificate)

    async def certificate(self, certificate_id: str) -> Certificate:
        """As it stands now: an incomplete one is proven again."""
        tenant_id = may_use_documents().tenant_id
        found = await self._certificates.get(tenant_id, certificate_id)
        return found if found.complete else await self._prove(tenant_id, found)

    async def list_page(self, *, size: int, position: str | None) -> Page[Certificate]:
        """Newest first, as they were last proven."""
        return await self._certificates.list_page(may_use_documents().tenant_id, size=size, position=position)

    async def _begin(
        self,
        principal: Principal,
        kind: str,
        target_id: str,
        *,
        document_id: str = "",
        collection_ids: Sequence[str] | None = None,
        uploaded_by: str = "",
    ) -> Certificate:
        deleted = await self._certificates.measure(
            principal.tenant_id, document_id=document_id, collection_ids=collection_ids, uploaded_by=uploaded_by
        )
        return await self._certificates.create(
            principal.tenant_id, kind=kind, target_id=target_id, requested_by=principal.id, deleted=deleted
        )

    async def _remove_documents(self, principal: Principal, certificate: Certificate) -> None:
        for _, document_id in certificate.deleted.traces.documents:
            try:
                job = await self._documents.delete(principal.tenant_id, document_id, principal_id=principal.id)
            except NotFound:
                continue  # somebody else was first
            await self._purger.try_now(job)

    async def _remove_collections(self, principal: Principal, certificate: Certificate) -> None:
        for collection_id in certificate.deleted.traces.collections:
            try:
                job = await self._collections.delete(principal.tenant_id, collection_id, principal_id=principal.id)
            except NotFound:
                continue
            await self._purger.try_now(job)

    async def _prove(self, tenant_id: str, certificate: Certificate) -> Certificate:
        traces: Traces = certificate.deleted.traces
        looked_for = len(traces.documents) + len(traces.collections)
        proofs = (
            Proof("rows", looked_for, await self._certificates.rows_left(tenant_id, traces)),
            Proof("keyword_index", certificate.deleted.chunks, await self._certificates.words_left(tenant_id)),
            await self._vector_proof(tenant_id, traces),
            Proof("caches", looked_for, self._cache.holding(traces)),
        )
        return await self._certificates.prove(tenant_id, replace(certificate, proofs=proofs))

    async def _vector_proof(self, tenant_id: str, traces: Traces) -> Proof:
        looked_for = len(traces.documents) + len(traces.indexes)
        # Asked before the looks: a removal that was over by then left nothing to find.
        pending = await self._certificates.removal_stored(tenant_id, traces)
        try:
            left = await self._vectors_left(tenant_id, traces)
        except Unavailable:
            return Proof("vectors", looked_for, 0, pending=True)
        return Proof("vectors", looked_for, left, pending=pending)

    async def _vectors_left(self, tenant_id: str, traces: Traces) -> int:
        whole = set(traces.indexes)
        for collection_id in traces.collections:
            whole |= await self._collections.indexes(tenant_id, collection_id)
        left = sum([await self._vectors.count(index) for index in sorted(whole)])
        for collection_id in {id_ for id_, _ in traces.documents} - set(traces.collections):
            for index in await self._collections.indexes(tenant_id, collection_id):
                for _, document_id in filter(lambda pair: pair[0] == collection_id, traces.documents):
                    left += await self._vectors.count_document(index, document_id)
        return left
