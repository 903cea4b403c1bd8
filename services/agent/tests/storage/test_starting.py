"""A run is stored and handed over together, or not at all, and is not given up while the database is away."""

from typing import Any

import pytest
from errand_agent.domain.runs import Outcome, StopReason
from errand_agent.domain.workflows import AgentWork, Node, Workflow
from errand_agent.journal import Bell, until_there
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.storage.runs import RunRepository
from errand_agent.testing.ports import ScriptedModel, ScriptedRetriever, ScriptedToolbox
from errand_agent.testing.rows import PERSON, TENANT, stored
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.forks import ForkUseCases
from errand_agent.use_cases.runs import RunUseCases
from errand_agent.use_cases.workflows import WorkflowUseCases
from errand_common.db import Database, utc_now
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

    async def begin(self, name: str, tenant_id: str, id: str) -> None:
        await self.submit(tenant_id, id)

    async def fork(self, run_id: str, forked_id: str, from_step: int | None) -> None:
        await self.submit("", forked_id)

    async def model_steps(self, run_id: str) -> list[int]:
        return [1]


def _runs(database: Database, executor: Any) -> RunUseCases:
    return RunUseCases(database, Bell(), executor)


def _agents(database: Database) -> AgentUseCases:
    return AgentUseCases(database, ScriptedToolbox(), ScriptedRetriever(), ScriptedModel([]))


async def _rows(database: Database, tenant: str = "default") -> tuple[int, int]:
    async with database.transaction(tenant) as session:
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


async def test_a_fork_that_nobody_can_execute_is_not_stored(database: Database) -> None:
    run_id = await stored(database)
    async with database.transaction(TENANT) as session:
        row = await session.get_one(RunRow, run_id)
        RunRepository(session).end(row, Outcome(StopReason.ANSWER, "42"), utc_now())
    executor: Any = _Executor(away=True)
    forks = ForkUseCases(database, executor, _agents(database))
    with acting_as(PERSON), pytest.raises(Unavailable):
        await forks.fork(run_id, 1, instructions=None, model=None)
    assert await _rows(database, TENANT) == (1, 1)
    executor.away = False
    with acting_as(PERSON):
        assert executor.given == [await forks.fork(run_id, 1, instructions=None, model=None)]


async def test_a_workflows_run_that_nobody_can_execute_is_not_stored(database: Database) -> None:
    executor: Any = _Executor(away=True)
    flows = WorkflowUseCases(database, executor, _agents(database), _runs(database, executor))
    node = Node("only", AgentWork("default", "{{ input }}"))
    with acting_as(principal()):
        await flows.put(Workflow("report", (node,), max_tokens=1000, max_seconds=60), 0)
        with pytest.raises(Unavailable):
            await flows.start("report", "tea")
        assert (await flows.page(workflow="report", size=0, token=""))[0] == []
        executor.away = False
        assert executor.given == [(await flows.start("report", "tea")).id]


async def test_a_run_waits_for_the_database_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_agent.journal._AWAY_SECONDS", 0.0)
    tries = iter([Unavailable("database"), Unavailable("database"), "ended"])

    async def end() -> str:
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        return found

    assert await until_there(end) == "ended"

    async def broken() -> str:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await until_there(broken)
