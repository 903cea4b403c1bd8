"""Rows that tests of the tables begin with."""

from __future__ import annotations

from errand_common.db import Database, new_id, utc_now
from errand_common.testing.keys import principal

from errand_agent.domain.agents import Agent
from errand_agent.domain.conversations import Role
from errand_agent.domain.runs import EventKind, Run, RunState
from errand_agent.storage.conversations import ConversationRepository, claim
from errand_agent.storage.runs import RunRepository

TENANT = "t1"
AGENT = Agent("helper", instructions="Help.", tools=("calculator",), collections=("handbook",), max_steps=4)
PERSON = principal(TENANT, "ann", roles=("user",))


async def stored(database: Database, key: str = "", message: str = "Hello") -> str:
    """A run with its conversation, message and first event."""
    async with database.transaction(TENANT) as session:
        runs, conversations = RunRepository(session), ConversationRepository(session)
        conversation = await conversations.add(TENANT, PERSON.id, title="A talk", agent=AGENT.name)
        run = Run(new_id("run"), TENANT, PERSON.id, conversation.id, AGENT.name, message, RunState.QUEUED, utc_now())
        claim(conversation, run.id)
        row = await runs.add(run, PERSON, AGENT, key)
        await conversations.say(conversation, Role.USER, message, run.id)
        await runs.append(row, "started", [(EventKind.STARTED, {})])
    return run.id
