"""Collections of documents."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import ConfigDict, Field

from errand_gateway.domain import documents as d
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.document_bodies import MetadataSchema, Roles
from errand_gateway.transport.fields import Body, PageDep, ResourceId, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/collections", tags=["documents"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE))]
Description = Annotated[Text, Field(max_length=2000, description="What is in it.")]
Readers = Annotated[Roles, Field(description="Roles that may search and read it; none for everyone.")]
Writers = Annotated[Roles, Field(description="Roles that may change it; none for everyone who may write.")]
MaxDocuments = Annotated[int, Field(ge=0, lt=2**63, description="Most documents; 0 leaves the tenant's bound alone.")]
MaxBytes = Annotated[int, Field(ge=0, lt=2**63, description="Most bytes; 0 leaves the tenant's bound alone.")]


class NewCollection(Body):
    """A collection to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "handbook", "description": "Staff handbook"},
                {"name": "contracts", "metadata_schema": {"year": "number"}, "reader_roles": ["legal"]},
            ]
        }
    )

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$",
            description="Unique in the tenant: 3 to 63 letters, digits, '.', '_' and '-'.",
        ),
    ]
    description: Description = ""
    chunk_tokens: Annotated[int, Field(ge=32, le=256, description="Tokens of a chunk.")] = 200
    chunk_overlap_tokens: Annotated[
        int, Field(ge=0, le=128, description="Tokens a chunk repeats of the one before.")
    ] = 0
    metadata_schema: MetadataSchema = Field(default={})
    reader_roles: Readers = Field(default=[])
    writer_roles: Writers = Field(default=[])
    max_documents: MaxDocuments = 0
    max_bytes: MaxBytes = 0


class CollectionChange(Body):
    """What of a collection is to be another; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reader_roles": ["legal"], "max_documents": 1000}]})

    description: Description | None = None
    reader_roles: Readers | None = None
    writer_roles: Writers | None = None
    max_documents: MaxDocuments | None = None
    max_bytes: MaxBytes | None = None


class Reindex(Body):
    """How the new index is made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"embedding_model": "all-minilm-l6-v2"}]})

    embedding_model: Annotated[
        Text, Field(max_length=256, description="Empty keeps the model in use and only drops dead space.")
    ] = ""


class Reconcile(Body):
    """Whether what is found is repaired."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dry_run": True}]})

    dry_run: Annotated[bool, Field(description="Only counts, repairs nothing.")] = False


class Retried(Body):
    """How many are tried again."""

    retried: Annotated[int, Field(description="Documents, at most 1,000 in a call.")]


@router.post(
    "",
    status_code=201,
    summary="Make a collection",
    responses={**BODY_RESPONSES, **CONFLICT},
)
async def create_collection(body: NewCollection, services: ServicesDep, _caller: Writer) -> d.Collection:
    """A new, empty collection."""
    return await services.documents.create_collection(d.NewCollection(**body.model_dump()))


@router.get("", summary="List collections")
async def list_collections(page: PageDep, services: ServicesDep, _caller: Reader) -> Page[d.Collection]:
    """The tenant's collections, oldest first."""
    return await services.documents.list_collections(page)


@router.get("/{collection_id}", summary="Get a collection", responses=NOT_FOUND)
async def get_collection(collection_id: ResourceId, services: ServicesDep, _caller: Reader) -> d.Collection:
    """One collection, by id or name."""
    return await services.documents.get_collection(collection_id)


@router.patch("/{collection_id}", summary="Change a collection", responses={**BODY_RESPONSES, **NOT_FOUND})
async def update_collection(
    collection_id: ResourceId, body: CollectionChange, services: ServicesDep, _caller: Writer
) -> d.Collection:
    """Changes description, roles and quotas; they hold from the next request on."""
    return await services.documents.update_collection(collection_id, d.CollectionChange(**body.model_dump()))


@router.delete("/{collection_id}", summary="Delete a collection", responses=NOT_FOUND)
async def delete_collection(collection_id: ResourceId, services: ServicesDep, _caller: Writer) -> d.DeletionCertificate:
    """Deletes a collection with its documents, their text and vectors; answers with the certificate."""
    return await services.documents.delete_collection(collection_id)


@router.post(
    "/{collection_id}/reindex",
    status_code=202,
    summary="Build a collection's index anew",
    responses={**BODY_RESPONSES, **NOT_FOUND, **CONFLICT},
)
async def reindex_collection(
    collection_id: ResourceId, body: Reindex, services: ServicesDep, _caller: Writer
) -> d.Collection:
    """In the background; searches use the old index until the new one is complete (`reindex` tells how far)."""
    return await services.documents.reindex_collection(collection_id, body.embedding_model)


@router.post(
    "/{collection_id}/reconcile",
    summary="Compare text and vectors of a collection",
    responses={**BODY_RESPONSES, **NOT_FOUND},
)
async def reconcile_collection(
    collection_id: ResourceId, body: Reconcile, services: ServicesDep, _caller: Writer
) -> d.Reconciliation:
    """Embeds chunks that lost their vector and removes vectors that lost their chunk."""
    return await services.documents.reconcile_collection(collection_id, dry_run=body.dry_run)


@router.post("/{collection_id}/retry", summary="Try all failed ingestions again", responses=NOT_FOUND)
async def retry_documents(collection_id: ResourceId, services: ServicesDep, _caller: Writer) -> Retried:
    """Tries the collection's failed and cancelled documents again."""
    return Retried(retried=await services.documents.retry_documents(collection_id))
