"""What a person's agents know."""

from collections.abc import Sequence
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from errand_gateway.domain.memory import Fact, FactMatch, FactQuery, KeptFact
from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, Body, PageDep, ResourceId, SpokenText, Text
from errand_gateway.transport.services import ServicesDep
from errand_gateway.transport.spending import SEARCH_MODEL, hold_for_text, note_text

router = guarded_router(prefix="/api/v1/facts", tags=["memory"])

Reader = Annotated[Principal, Depends(Requires(Permission.MEMORY_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.MEMORY_WRITE))]
Reference = Annotated[str, Field(max_length=64, pattern=ID_PATTERN)]


class NewFact(Body):
    """What shall be remembered of the caller."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Prefers answers in metres.", "key": "units", "agent": "default"}]}
    )

    text: Annotated[SpokenText, Field(min_length=1, max_length=1000)]
    key: Annotated[Text, Field(max_length=128, description="A name to find it by.")] = ""
    agent: Annotated[Reference, Field(description="Only this agent knows it; left out, all do.")] = ""
    conversation_id: Annotated[Reference, Field(description="Only there it holds; left out, everywhere.")] = ""
    message_id: Annotated[Reference, Field(description="The message it comes from.")] = ""
    expires_at: Annotated[AwareDatetime | None, Field(description="When it is forgotten; left out, never.")] = None

    def fact(self) -> Fact:
        """The domain's."""
        return Fact(self.text, self.key, self.agent, self.conversation_id, self.message_id, self.expires_at)


class FactSearch(Body):
    """A text that facts shall be near to, or their key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "which units?", "top_k": 3}]})

    query: Annotated[Text, Field(max_length=4096)] = ""
    key: Annotated[Text, Field(max_length=128)] = ""
    agent: Annotated[Reference, Field(description="What this agent knows; left out, what all do.")] = ""
    conversation_id: Annotated[Reference, Field(description="What holds there; left out, everywhere.")] = ""
    top_k: Annotated[int, Field(ge=1, le=50)] = 5
    min_similarity: Annotated[float, Field(ge=-1, le=1, description="Least cosine similarity.")] = 0.0

    @model_validator(mode="after")
    def _asks_for_something(self) -> "FactSearch":
        if not self.query.strip() and not self.key:
            raise ValueError("give a query or a key")
        return self


class FactMatches(BaseModel):
    """Facts, best first."""

    matches: Sequence[FactMatch]


class ErasedFacts(BaseModel):
    """How many facts were forgotten."""

    erased: int


@router.post("", summary="Remember a fact", responses={**BODY_RESPONSES, **CONFLICT})
async def insert_fact(body: NewFact, request: Request, services: ServicesDep, caller: Writer) -> KeptFact:
    """Keeps a fact; one that is known, word for word or by its meaning, is counted instead (`merged`)."""
    await hold_for_text(request, services, caller, SEARCH_MODEL, len(body.text.encode()))
    kept = await services.memory.insert_fact(body.fact())
    note_text(request, SEARCH_MODEL)
    return kept


@router.get("", summary="List facts")
async def list_facts(page: PageDep, services: ServicesDep, _caller: Reader) -> Page[Fact]:
    """All that is known of the caller, newest first."""
    return await services.memory.list_facts(page)


@router.post("/query", summary="Find facts", responses=BODY_RESPONSES)
async def query_facts(body: FactSearch, request: Request, services: ServicesDep, caller: Reader) -> FactMatches:
    """The caller's facts nearest to a text, or those of a key."""
    await hold_for_text(request, services, caller, SEARCH_MODEL, len(body.query.encode()))
    found = await services.memory.query_facts(FactQuery(**body.model_dump()))
    note_text(request, SEARCH_MODEL)
    return FactMatches(matches=found)


@router.delete("", summary="Forget all facts of a person", responses=NOT_FOUND)
async def erase_facts(
    services: ServicesDep,
    _caller: Writer,
    principal_id: Annotated[
        str, Query(max_length=128, pattern=ID_PATTERN, description="For an administrator; left out, the caller.")
    ] = "",
) -> ErasedFacts:
    """Forgets everything about the caller; an administrator may name another person of the tenant."""
    return ErasedFacts(erased=await services.memory.erase_facts(principal_id))


@router.delete("/{fact_id}", status_code=204, summary="Forget a fact", responses=NOT_FOUND)
async def delete_fact(fact_id: ResourceId, services: ServicesDep, _caller: Writer) -> None:
    """Forgets one of the caller's facts."""
    await services.memory.delete_fact(fact_id)
