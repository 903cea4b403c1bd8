"""Prompts that are written in a registry outside: runs read the copy here, whether the registry is there or not."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from errand_common.db import Database, utc_now
from errand_common.errors import Conflict, InvalidArgument, Unavailable

from errand_agent.domain.prompts import Prompt, PromptRegistry, Registered, Variant, check_prompt
from errand_agent.storage.prompts import PromptRepository
from errand_agent.storage.timers import Timer, TimerRepository

KIND = "prompt"
_FOLLOW = timedelta(seconds=30)
_WHOLE = 100
_log = structlog.get_logger(__name__)


class PromptCopies:
    """Follows the registry for the prompts that agents name."""

    def __init__(self, database: Database, registry: PromptRegistry) -> None:
        self._database, self._registry = database, registry

    async def follow(self, tenant_id: str, reference: str) -> None:
        """Copies a prompt that an agent names, and from now on what changes in it.

        While the registry is away, the copy stands.
        """
        name = reference.partition("@")[0]
        try:
            found = await self._registry.find(tenant_id, name)
        except Unavailable as error:
            _log.warning("the registry of prompts is away; copies stay as they are", error=error.message)
            return
        if found is None:
            return
        await self._copy(tenant_id, name, found)
        async with self._database.transaction() as session:
            await TimerRepository(session).put(Timer(KIND, tenant_id, name, utc_now() + _FOLLOW))

    async def renew(self, timer: Timer) -> datetime | None:
        """Copies what changed; follows no longer when the prompt is gone, here or there. Raises Unavailable."""
        async with self._database.transaction(timer.tenant, read_only=True) as session:
            kept, _ = await PromptRepository(session, timer.tenant).newest(timer.thing)
        if kept is None:
            return None
        found = await self._registry.find(timer.tenant, timer.thing)
        if found is None:
            return None
        await self._copy(timer.tenant, timer.thing, found)
        return utc_now() + _FOLLOW

    async def _copy(self, tenant_id: str, name: str, found: Registered) -> None:
        async with self._database.transaction(tenant_id) as session:
            prompts = PromptRepository(session, tenant_id)
            copied = await prompts.copied(name)
            for source, template in sorted(found.templates.items()):
                if source not in copied and _is_usable(name, source, template):
                    _, last = await prompts.newest(name)
                    told = f"version {source} of MLflow's registry"
                    try:
                        stored = await prompts.put(Prompt(name, template, told), last + 1, source_version=source)
                    except Conflict:
                        # Another replica copied it at the same moment.
                        return
                    copied[source] = stored.version
            for alias, source in found.aliases.items():
                if source in copied:
                    await prompts.set_alias(name, alias, [Variant(copied[source], _WHOLE)])


def _is_usable(name: str, source: int, template: str) -> bool:
    try:
        check_prompt(template)
    except InvalidArgument as error:
        _log.warning("a prompt of the registry cannot be used", prompt=name, version=source, error=error.message)
        return False
    return True
