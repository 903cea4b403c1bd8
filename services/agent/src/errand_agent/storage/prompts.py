"""Every query on prompts, their aliases and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from errand_common.db import utc_now
from errand_common.errors import Conflict
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.prompts import Prompt, PromptResult, Variant
from errand_agent.domain.runs import RunState, StopReason
from errand_agent.storage.models import FeedbackRow, PromptAliasRow, PromptRow, RunRow


def _prompt(row: PromptRow) -> Prompt:
    return Prompt(row.name, row.template, row.description, row.version, row.created_at)


class PromptRepository:
    """Prompts of one transaction's tenant. Versions are only added."""

    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session, self._tenant_id = session, tenant_id

    async def newest(self, name: str) -> tuple[Prompt | None, int]:
        """The newest version, if the prompt is there, and the last version's number."""
        query = sa.select(PromptRow).where(PromptRow.tenant_id == self._tenant_id, PromptRow.name == name)
        row = await self._session.scalar(query.order_by(PromptRow.version.desc()).limit(1))
        if row is None:
            return None, 0
        return None if row.deleted else _prompt(row), row.version

    async def version(self, name: str, version: int) -> Prompt | None:
        """A version, if it is there."""
        row = await self._session.get(PromptRow, (self._tenant_id, name, version))
        return None if row is None or row.deleted else _prompt(row)

    async def put(
        self, prompt: Prompt, version: int, *, deleted: bool = False, source_version: int | None = None
    ) -> Prompt:
        """Stores a version; raises Conflict when another writer stored it first."""
        row = PromptRow(
            tenant_id=self._tenant_id,
            name=prompt.name,
            version=version,
            template=prompt.template,
            description=prompt.description,
            deleted=deleted,
            created_at=utc_now(),
            source_version=source_version,
        )
        self._session.add(row)
        try:
            await self._session.flush()
        except IntegrityError as error:
            told = "The prompt was changed at the same time; store it again."
            raise Conflict(told, resource="prompt", id=prompt.name) from error
        return _prompt(row)

    async def copied(self, name: str) -> dict[int, int]:
        """Versions that are copies, by their version in the registry they come from."""
        query = sa.select(PromptRow.source_version, PromptRow.version).where(
            PromptRow.tenant_id == self._tenant_id, PromptRow.name == name, PromptRow.source_version.is_not(None)
        )
        rows = await self._session.execute(query.order_by(PromptRow.version))
        return {row.source_version: row.version for row in rows}

    async def all(self) -> list[Prompt]:
        """The newest versions, by name."""
        newest = (
            sa.select(PromptRow.name, sa.func.max(PromptRow.version).label("version"))
            .where(PromptRow.tenant_id == self._tenant_id)
            .group_by(PromptRow.name)
            .subquery()
        )
        query = (
            sa.select(PromptRow)
            .join(newest, sa.and_(PromptRow.name == newest.c.name, PromptRow.version == newest.c.version))
            .where(PromptRow.tenant_id == self._tenant_id, PromptRow.deleted.is_(False))
            .order_by(PromptRow.name)
        )
        return [_prompt(row) for row in await self._session.scalars(query)]

    async def aliases(self, name: str) -> Mapping[str, Sequence[Variant]]:
        """A prompt's aliases by name."""
        query = sa.select(PromptAliasRow).where(
            PromptAliasRow.tenant_id == self._tenant_id, PromptAliasRow.name == name
        )
        rows = await self._session.scalars(query.order_by(PromptAliasRow.alias))
        return {row.alias: [Variant(**variant) for variant in row.variants] for row in rows}

    async def set_alias(self, name: str, alias: str, variants: Sequence[Variant]) -> None:
        """Replaces an alias."""
        await self._session.merge(
            PromptAliasRow(
                tenant_id=self._tenant_id, name=name, alias=alias, variants=[asdict(variant) for variant in variants]
            )
        )

    async def delete_aliases(self, name: str) -> None:
        """Removes all of a prompt's."""
        await self._session.execute(
            sa.delete(PromptAliasRow).where(PromptAliasRow.tenant_id == self._tenant_id, PromptAliasRow.name == name)
        )

    async def results(self, name: str, since: datetime | None) -> list[PromptResult]:
        """By version, the newest first."""
        ended = [
            RunRow.tenant_id == self._tenant_id,
            RunRow.prompt_name == name,
            RunRow.state == RunState.ENDED.value,
        ]
        if since is not None:
            ended.append(RunRow.created_at >= since)
        tokens = RunRow.usage["prompt_tokens"].as_integer() + RunRow.usage["completion_tokens"].as_integer()
        of_runs = sa.select(
            RunRow.prompt_version,
            sa.func.count(),
            sa.func.sum(sa.case((RunRow.stop_reason == StopReason.ANSWER.value, 1), else_=0)),
            sa.func.sum(tokens),
            sa.func.sum(RunRow.cost_micros),
        )
        runs = await self._session.execute(of_runs.where(*ended).group_by(RunRow.prompt_version))
        opinions = sa.select(
            RunRow.prompt_version,
            sa.func.sum(sa.case((FeedbackRow.helpful.is_(True), 1), else_=0)),
            sa.func.count(),
        ).join(FeedbackRow, FeedbackRow.run_id == RunRow.id)
        found = await self._session.execute(opinions.where(*ended).group_by(RunRow.prompt_version))
        said = {version: (int(helpful), int(count)) for version, helpful, count in found}
        results = []
        for version, count, answered, used, cost in runs:
            helpful, all_said = said.get(version, (0, 0))
            results.append(
                PromptResult(version, count, int(answered), helpful, all_said - helpful, int(used), int(cost))
            )
        return sorted(results, key=lambda result: -result.version)
