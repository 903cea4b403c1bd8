"""Keeping prompts, choosing their versions, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from errand_common.db import Database, utc_now
from errand_common.errors import Conflict, NotFound
from errand_common.principal import current_principal
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.agents import Agent
from errand_agent.domain.prompts import (
    MOST_PROMPTS,
    Prompt,
    PromptResult,
    Variant,
    check_prompt,
    check_variants,
    chosen,
    instructions_of,
)
from errand_agent.storage.prompts import PromptRepository

_log = structlog.get_logger(__name__)


class PromptUseCases:
    """Prompts of the caller's tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, prompt: Prompt) -> Prompt:
        """A new version; raises InvalidArgument, Conflict."""
        check_prompt(prompt.template)
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            prompts = PromptRepository(session, tenant_id)
            found, version = await prompts.newest(prompt.name)
            if found is None and len(await prompts.all()) >= MOST_PROMPTS:
                told = f"There are {MOST_PROMPTS} prompts already; delete one."
                raise Conflict(told, resource="prompt", id=prompt.name)
            return await self._whole(prompts, await prompts.put(prompt, version + 1))

    async def get(self, name: str, version: int) -> Prompt:
        """The newest version for 0. Raises NotFound."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            prompts = PromptRepository(session, tenant_id)
            newest = await self._newest(prompts, name)
            found = await prompts.version(name, version) if version else newest
            if found is None:
                raise NotFound("prompt", f"{name}:{version}")
            return await self._whole(prompts, found)

    async def _newest(self, prompts: PromptRepository, name: str) -> Prompt:
        found, _ = await prompts.newest(name)
        if found is None:
            raise NotFound("prompt", name)
        return found

    async def _whole(self, prompts: PromptRepository, prompt: Prompt) -> Prompt:
        return replace(prompt, aliases=await prompts.aliases(prompt.name))

    async def all(self) -> list[Prompt]:
        """In their newest versions, by name."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            prompts = PromptRepository(session, tenant_id)
            return [await self._whole(prompts, prompt) for prompt in await prompts.all()]

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            prompts = PromptRepository(session, tenant_id)
            found = await self._newest(prompts, name)
            await prompts.put(found, found.version + 1, deleted=True)
            await prompts.delete_aliases(name)

    async def set_alias(self, name: str, alias: str, variants: Sequence[Variant]) -> Prompt:
        """Raises NotFound, InvalidArgument."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id) as session:
            prompts = PromptRepository(session, tenant_id)
            newest = await self._newest(prompts, name)
            check_variants(variants, newest.version)
            await prompts.set_alias(name, alias, variants)
            return await self._whole(prompts, newest)

    async def results(self, name: str, since: datetime | None) -> list[PromptResult]:
        """By version; raises NotFound."""
        tenant_id = current_principal().tenant_id
        async with self._database.transaction(tenant_id, read_only=True) as session:
            prompts = PromptRepository(session, tenant_id)
            await self._newest(prompts, name)
            return await prompts.results(name, since)


async def follow_none(_tenant_id: str, _reference: str) -> None:
    """Where no registry is, prompts are written here alone."""


async def check_reference(session: AsyncSession, tenant_id: str, reference: str) -> None:
    """Raises NotFound for a prompt or an alias that is not there."""
    name, _, alias = reference.partition("@")
    prompts = PromptRepository(session, tenant_id)
    if (await prompts.newest(name))[0] is None:
        raise NotFound("prompt", name)
    if alias and alias not in await prompts.aliases(name):
        raise NotFound("prompt alias", reference)


async def prompted(session: AsyncSession, agent: Agent, conversation_id: str) -> tuple[Agent, str]:
    """The agent with its prompt's text as instructions, and NAME:VERSION; as it is where that is not to be had."""
    if not agent.prompt:
        return agent, ""
    principal = current_principal()
    prompts = PromptRepository(session, principal.tenant_id)
    name, _, alias = agent.prompt.partition("@")
    variants = (await prompts.aliases(name)).get(alias, ()) if alias else ()
    if alias and not variants:
        prompt = None
    elif variants:
        prompt = await prompts.version(name, chosen(variants, alias, conversation_id))
    else:
        prompt, _ = await prompts.newest(name)
    if prompt is None:
        _log.warning("the prompt is not there; the agent's own instructions are taken", prompt=agent.prompt)
        return agent, ""
    try:
        text = instructions_of(prompt.template, agent, today=utc_now().date().isoformat(), user=principal.id)
    except ValueError as error:
        _log.warning("the prompt failed; the agent's own instructions are taken", prompt=agent.prompt, error=str(error))
        return agent, ""
    return replace(agent, instructions=text), f"{name}:{prompt.version}"
