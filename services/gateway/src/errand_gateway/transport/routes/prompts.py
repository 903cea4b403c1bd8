"""Prompts: instructions with versions, aliases and results by version."""

from collections.abc import Sequence
from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.prompts import Prompt, PromptAlias, PromptResult, PromptVariant
from errand_gateway.transport.access import BODY_RESPONSES, CONFLICT, NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import Body, SpokenText, Text
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/prompts", tags=["prompts"])

Reader = Annotated[Principal, Depends(Requires(Permission.AGENTS_READ))]
Writer = Annotated[Principal, Depends(Requires(Permission.AGENTS_WRITE))]
PromptName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["tone"])]
AliasName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["live"])]


class NewPrompt(Body):
    """A version of a prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "template": "You are {{ agent }}. {{ instructions }} Today is {{ today }}.",
                    "description": "Knows the date.",
                }
            ]
        }
    )

    template: Annotated[
        SpokenText,
        Field(min_length=1, max_length=16_384, description="Jinja over `agent`, `instructions`, `today` and `user`."),
    ]
    description: Annotated[Text, Field(max_length=2000, description="What is new.")] = ""


class Share(Body):
    """A version and its share of the conversations."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    percent: Annotated[int, Field(ge=1, le=100)]


class Alias(Body):
    """What an alias stands for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"variants": [{"version": 1, "percent": 90}, {"version": 2, "percent": 10}]}]}
    )

    variants: list[Share] = Field(min_length=1, max_length=8, description="The shares make 100.")


class PromptList(BaseModel):
    """All there are, in their newest versions; a tenant has at most 200."""

    items: Sequence[Prompt]


class PromptResults(BaseModel):
    """Results by version, the newest first."""

    results: Sequence[PromptResult]


@router.get("", summary="List prompts")
async def list_prompts(services: ServicesDep, _caller: Reader) -> PromptList:
    """The tenant's prompts by name, in their newest versions."""
    return PromptList(items=await services.prompts.list_prompts())


@router.put("/{prompt}", summary="Store a version of a prompt", responses={**BODY_RESPONSES, **CONFLICT})
async def put_prompt(prompt: PromptName, body: NewPrompt, services: ServicesDep, _caller: Writer) -> Prompt:
    """A new version; it is rendered for a try first. Agents name it `NAME`, or `NAME@ALIAS`."""
    return await services.prompts.put_prompt(Prompt(prompt, body.template, body.description))


@router.get("/{prompt}", summary="Get a prompt", responses=NOT_FOUND)
async def get_prompt(
    prompt: PromptName,
    services: ServicesDep,
    _caller: Reader,
    version: Annotated[int, Query(ge=1, le=2**31 - 1, description="Left out, the newest.")] | None = None,
) -> Prompt:
    """One version, with all aliases."""
    return await services.prompts.get_prompt(prompt, version or 0)


@router.delete("/{prompt}", status_code=204, summary="Remove a prompt", responses=NOT_FOUND)
async def delete_prompt(prompt: PromptName, services: ServicesDep, _caller: Writer) -> None:
    """Removes it with its aliases; agents that use it fall back on their own instructions."""
    await services.prompts.delete_prompt(prompt)


@router.put("/{prompt}/aliases/{alias}", summary="Set an alias of a prompt", responses={**BODY_RESPONSES, **NOT_FOUND})
async def set_prompt_alias(
    prompt: PromptName, alias: AliasName, body: Alias, services: ServicesDep, _caller: Writer
) -> Prompt:
    """Points it at a version, or shares conversations out; each keeps its version while the shares stay."""
    variants = [PromptVariant(share.version, share.percent) for share in body.variants]
    return await services.prompts.set_prompt_alias(prompt, PromptAlias(alias, variants))


@router.get("/{prompt}/results", summary="Compare versions of a prompt", responses=NOT_FOUND)
async def get_prompt_results(
    prompt: PromptName,
    services: ServicesDep,
    _caller: Reader,
    since: Annotated[AwareDatetime | None, Query(description="Only of runs begun then or later.")] = None,
) -> PromptResults:
    """Runs, answers, opinions, tokens and cost of each version."""
    return PromptResults(results=await services.prompts.prompt_results(prompt, since))
