"""Which run of a conversation is executed: one at a time, the others wait for their turn or their time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from errand_common.db import Database, utc_now
from sqlalchemy.ext.asyncio import AsyncSession

from errand_agent.domain.conversations import Role
from errand_agent.domain.runs import Priority
from errand_agent.storage.conversations import ConversationRepository
from errand_agent.storage.models import ConversationRow, RunRow
from errand_agent.storage.runs import RunRepository
from errand_agent.storage.timers import Timer
from errand_agent.telemetry import STORED

KIND = "run"


class Submit(Protocol):
    """Hands a run over to be executed; done again it does nothing."""

    async def __call__(self, tenant_id: str, run_id: str, *, priority: Priority, trace: dict[str, str]) -> None: ...


async def admit(session: AsyncSession, row: RunRow, conversation: ConversationRow, submit: Submit) -> None:
    """Gives the conversation to the run; raises Conflict while another one has it."""
    conversations = ConversationRepository(session)
    conversations.claim(conversation, row.id)
    await conversations.say(conversation, Role.USER, row.message, row.id)
    STORED.inc()
    row.waiting = False
    await session.flush()
    # Before the commit: a process that dies between the two leaves no run that nobody executes.
    await submit(row.tenant_id, row.id, priority=Priority(row.priority), trace=row.trace)


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
