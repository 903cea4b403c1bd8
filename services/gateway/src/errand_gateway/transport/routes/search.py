"""Search in documents."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Request
from pydantic import ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import SearchCommand, SearchMode, SearchResult
from errand_gateway.transport.access import BODY_RESPONSES, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, ResourceId, SpokenText
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import SEARCH_MODEL, hold_for_text, note_text

router = guarded_router(prefix="/api/v1", tags=["documents"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
CollectionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class CollectionSearch(Body):
    """What is looked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "How many days of leave?", "top_k": 5}]})

    query: Annotated[SpokenText, Field(min_length=1, max_length=4096)]
    top_k: Annotated[int, Field(ge=1, le=50, description="Passages wanted.")] = 5
    mode: SearchMode = SearchMode.HYBRID
    min_similarity: Annotated[
        float,
        Field(ge=-1, le=1, description="Leaves out passages less similar; 0 leaves none out."),
    ] = 0.0


class Search(CollectionSearch):
    """What is looked for, and where."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "How many days of leave?", "collections": ["handbook"]}]}
    )

    collections: list[CollectionName] = Field(
        default=[], max_length=16, description="Ids or names; none means all of the tenant's."
    )


@router.post(
    "/collections/{collection_id}/search",
    summary="Search a collection",
    responses={**BODY_RESPONSES, **NOT_FOUND},
)
async def search_collection(
    collection_id: ResourceId, body: CollectionSearch, request: Request, services: ServicesDep, caller: Reader
) -> SearchResult:
    """Passages of one collection, best first."""
    return await _search(request, services, caller, _command(body, [collection_id]))


@router.post("/search", summary="Search all collections", responses={**BODY_RESPONSES, **NOT_FOUND})
async def search(body: Search, request: Request, services: ServicesDep, caller: Reader) -> SearchResult:
    """Passages of the collections named, or of all, best first."""
    return await _search(request, services, caller, _command(body, body.collections))


async def _search(request: Request, services: Services, caller: Principal, command: SearchCommand) -> SearchResult:
    await hold_for_text(request, services, caller, SEARCH_MODEL, len(command.query.encode()))
    found = await services.documents.search(command)
    note_text(request, SEARCH_MODEL)
    return found


def _command(body: CollectionSearch, collections: list[str]) -> SearchCommand:
    return SearchCommand(
        query=body.query,
        collections=collections,
        top_k=body.top_k,
        mode=body.mode,
        min_similarity=body.min_similarity,
    )
