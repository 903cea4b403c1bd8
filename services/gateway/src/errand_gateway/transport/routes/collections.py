"""Collections of documents."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Collection, Page
from errand_gateway.transport.access import (
    BODY_RESPONSES,
    CONFLICT,
    NOT_FOUND,
    Requires,
    guarded_router,
)
from errand_gateway.transport.fields import Body, PageDep, ResourceId, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/collections", tags=["documents"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_WRITE))]


class NewCollection(Body):
    """A collection to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "handbook", "description": "Staff handbook"}]})

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$",
            description="Unique in the tenant: 3 to 63 letters, digits, '.', '_' and '-'.",
        ),
    ]
    description: Annotated[Text, Field(max_length=2000)] = ""
    chunk_tokens: Annotated[int, Field(ge=32, le=256, description="Tokens of a chunk.")] = 200
    chunk_overlap_tokens: Annotated[
        int, Field(ge=0, le=128, description="Tokens a chunk repeats of the one before.")
    ] = 0


@router.post(
    "",
    status_code=201,
    summary="Make a collection",
    responses={**BODY_RESPONSES, **CONFLICT},
)
async def create_collection(body: NewCollection, services: ServicesDep, _caller: Writer) -> Collection:
    """A new, empty collection."""
    return await services.documents.create_collection(
        body.name,
        body.description,
        chunk_tokens=body.chunk_tokens,
        chunk_overlap_tokens=body.chunk_overlap_tokens,
    )


@router.get("", summary="List collections")
async def list_collections(page: PageDep, services: ServicesDep, _caller: Reader) -> Page[Collection]:
    """The tenant's collections, oldest first."""
    return await services.documents.list_collections(page)


@router.get("/{collection_id}", summary="Get a collection", responses=NOT_FOUND)
async def get_collection(collection_id: ResourceId, services: ServicesDep, _caller: Reader) -> Collection:
    """One collection, by id or name."""
    return await services.documents.get_collection(collection_id)


@router.delete("/{collection_id}", status_code=204, summary="Delete a collection", responses=NOT_FOUND)
async def delete_collection(collection_id: ResourceId, services: ServicesDep, _caller: Writer) -> None:
    """Deletes a collection with its documents, their text and vectors."""
    await services.documents.delete_collection(collection_id)
