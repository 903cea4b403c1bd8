"""A run is stored and handed over together, or not at all."""

from typing import Any

import pytest
from errand_agent.journal import Bell
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.testing.ports import ScriptedModel, ScriptedRetriever, ScriptedToolbox
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.runs import RunUseCases
from errand_common.db import Database
from errand_common.errors import Unavailable
from errand_common.principal import acting_as
from errand_common.testing.keys import principal
from sqlalchemy import func, select


class _Executor:
    """Notes what it is given, or is away."""

    def __init__(self, *, away: bool) -> None:
        self.away = away
        self.given: list[str] = []

    async def submit(self, tenant_id: str, run_id: str, **_: Any) -> None:
        if self.away:
            raise Unavailable("database")
        self.given.append(run_id)


def _runs(database: Database, executor: Any) -> RunUseCases:
    agents = AgentUseCases(database, ScriptedToolbox(), ScriptedRetriever(), ScriptedModel([]))
    return RunUseCases(database, Bell(), executor, agents)


async def _rows(database: Database) -> tuple[int, int]:
    async with database.transaction("default") as session:
        runs = await session.scalar(select(func.count()).select_from(RunRow))
        return runs or 0, await session.scalar(select(func.count()).select_from(ConversationRow)) or 0


async def _start(runs: RunUseCases) -> str:
    with acting_as(principal()):
        return await runs.start(agent="", conversation_id="", message="hello", idempotency_key="")


async def test_a_run_that_nobody_can_execute_is_not_stored(database: Database) -> None:
    with pytest.raises(Unavailable):
        await _start(_runs(database, _Executor(away=True)))
    assert await _rows(database) == (0, 0)


async def test_a_stored_run_has_been_handed_over(database: Database) -> None:
    executor = _Executor(away=False)
    run_id = await _start(_runs(database, executor))
    assert executor.given == [run_id]
    assert await _rows(database) == (1, 1)
