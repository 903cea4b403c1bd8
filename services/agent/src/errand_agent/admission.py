"""Which run of a conversation is executed: one at a time, the others wait for their turn or their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from errand_common.db import Database, utc_now
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.conversations import Role
from errand_agent.domain.runs import Priority, RunState
from errand_agent.storage.conversations import ConversationRepository, claim
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.storage.runs import RunRepository
from errand_agent.storage.timers import Timer
from errand_agent.telemetry import STORED

KIND = "run"


class Submit(Protocol):
    """Hands a run over to be executed; done again it does nothing."""

    def __call__(
        self, tenant_id: str, run_id: str, *, priority: Priority, trace: dict[str, str]
    ) -> Coroutine[Any, Any, None]: ...


@asynccontextmanager
async def handed_over(
    run_id: str, conversation: ConversationRow, priority: Priority, trace: dict[str, str], submit: Submit
) -> AsyncIterator[None]:
    """Gives the conversation to a run that is stored meanwhile; raises Conflict while another one has it.

    It is handed over when the block ends, before the commit: a process that dies between the two leaves no run that
    nobody executes. Whoever executes it waits for the commit.
    """
    claim(conversation, run_id)
    STORED.inc()
    handing_over = asyncio.create_task(submit(conversation.tenant_id, run_id, priority=priority, trace=trace))
    try:
        yield
    finally:
        await handing_over


async def admit(session: AsyncSession, row: RunRow, conversation: ConversationRow, submit: Submit) -> None:
    """Gives the conversation to a run that waited for it; raises Conflict while another one has it."""
    priority = Priority(row.priority)
    async with handed_over(row.id, conversation, priority, row.trace, submit):
        row.waiting = False
        if priority is Priority.AT_ONCE:
            row.state, row.started_at = RunState.RUNNING.value, utc_now()
        await ConversationRepository(session).say(conversation, Role.USER, row.message, row.id)


async def admit_next(session: AsyncSession, conversation: ConversationRow, submit: Submit) -> None:
    """Gives a free conversation to the run that waits longest, if one does."""
    row = await RunRepository(session).next_waiting(conversation.id, utc_now())
    if row is not None and conversation.active_run_id is None:
        await admit(session, row, conversation, submit)


class DueRuns:
    """Runs whose time has come."""

    def __init__(self, database: Database, submit: Submit) -> None:
        self._database, self._submit = database, submit

    async def begin(self, timer: Timer) -> datetime | None:
        """Once; one whose conversation is busy follows when that is free."""
        async with self._database.transaction(timer.tenant) as session:
            row = await session.get(RunRow, timer.thing, with_for_update=True)
            if row is None or not row.waiting:
                return None
            conversation = await ConversationRepository(session).row(timer.tenant, row.conversation_id, None)
            if conversation is not None and conversation.active_run_id is None:
                await admit(session, row, conversation, self._submit)
        return None
