"""Search in documents."""

from collections.abc import Sequence
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Request
from pydantic import ConfigDict, Field

from errand_gateway.domain.documents import SearchCommand, SearchMode, SearchResult
from errand_gateway.domain.permissions import Permission
from errand_gateway.transport.access import BODY_RESPONSES, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.document_bodies import FilterBody
from errand_gateway.transport.fields import Body, ResourceId, SpokenText
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import SEARCH_MODEL, hold_for_text, note_text

router = guarded_router(prefix="/api/v1", tags=["documents"])

Reader = Annotated[Principal, Depends(Requires(Permission.DOCUMENTS_READ))]
CollectionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class CollectionSearch(Body):
    """What is looked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "How many days of leave?", "top_k": 5},
                {
                    "query": "notice period",
                    "filter": {"field": "year", "operator": "greater_or_equal", "value": 2024},
                    "neighbours": 1,
                },
            ]
        }
    )

    query: Annotated[SpokenText, Field(min_length=1, max_length=4096)]
    top_k: Annotated[int, Field(ge=1, le=50, description="Passages wanted.")] = 5
    mode: SearchMode = SearchMode.HYBRID
    min_similarity: Annotated[
        float,
        Field(ge=-1, le=1, description="Leaves out passages less similar; 0 leaves none out."),
    ] = 0.0
    filter: FilterBody | None = None
    diversity: Annotated[
        float, Field(ge=0, le=1, description="How much hits are to differ from one another: 0 not at all.")
    ] = 0.0
    neighbours: Annotated[int, Field(ge=0, le=3, description="Chunks to give before and after each hit.")] = 0
    rerank: Annotated[bool, Field(description="Whether a cross-encoder reads and orders the best passages.")] = False

    def command(self, collections: list[str]) -> SearchCommand:
        """What the rag service is asked; raises InvalidArgument for a filter that is too deep."""
        return SearchCommand(
            query=self.query,
            collections=collections,
            top_k=self.top_k,
            mode=self.mode,
            min_similarity=self.min_similarity,
            filter=self.filter.filter() if self.filter else None,
            diversity=self.diversity,
            neighbours=self.neighbours,
            rerank=self.rerank,
        )


class Search(CollectionSearch):
    """What is looked for, and where."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "How many days of leave?", "collections": ["handbook"]}]}
    )

    collections: list[CollectionName] = Field(
        default=[], max_length=16, description="Ids or names; none means all of the tenant's."
    )


class SearchBatch(Body):
    """Several searches at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"searches": [{"query": "How many days of leave?"}, {"query": "sick pay"}]}]}
    )

    searches: Annotated[list[Search], Field(min_length=1, max_length=32)]


class SearchAnswers(Body):
    """The answers, in the order of the searches."""

    answers: list[SearchResult]


@router.post(
    "/collections/{collection_id}/search",
    summary="Search a collection",
    responses={**BODY_RESPONSES, **NOT_FOUND},
)
async def search_collection(
    collection_id: ResourceId, body: CollectionSearch, request: Request, services: ServicesDep, caller: Reader
) -> SearchResult:
    """Passages of one collection, best first."""
    return (await _search(request, services, caller, [body.command([collection_id])]))[0]


@router.post("/search", summary="Search all collections", responses={**BODY_RESPONSES, **NOT_FOUND})
async def search(body: Search, request: Request, services: ServicesDep, caller: Reader) -> SearchResult:
    """Passages of the collections named, or of all, best first."""
    return (await _search(request, services, caller, [body.command(body.collections)]))[0]


@router.post("/search/batch", summary="Search for several things", responses={**BODY_RESPONSES, **NOT_FOUND})
async def search_batch(body: SearchBatch, request: Request, services: ServicesDep, caller: Reader) -> SearchAnswers:
    """Passages for up to 32 queries, whose texts are embedded together."""
    commands = [one.command(one.collections) for one in body.searches]
    return SearchAnswers(answers=list(await _search(request, services, caller, commands)))


async def _search(
    request: Request, services: Services, caller: Principal, commands: Sequence[SearchCommand]
) -> Sequence[SearchResult]:
    size = sum(len(command.query.encode()) for command in commands)
    await hold_for_text(request, services, caller, SEARCH_MODEL, size)
    if len(commands) == 1:
        found: Sequence[SearchResult] = [await services.documents.search(commands[0])]
    else:
        found = await services.documents.search_batch(commands)
    note_text(request, SEARCH_MODEL)
    return found
