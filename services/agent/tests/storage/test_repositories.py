"""Runs, events, approvals, agents: the same on SQLite and on Postgres."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from errand_agent.domain.agents import Agent
from errand_agent.domain.approvals import ApprovalState
from errand_agent.domain.memory import Fact
from errand_agent.domain.ports import Call
from errand_agent.domain.prompts import Prompt, Variant
from errand_agent.domain.retention import Retention
from errand_agent.domain.runs import Citation, EventKind, Outcome, RunState, Step, StepKind, StopReason, Usage
from errand_agent.domain.schedules import Schedule
from errand_agent.domain.webhooks import Webhook, WebhookEvent
from errand_agent.domain.workflows import JoinWork, Node, Workflow
from errand_agent.storage.agents import AgentRepository
from errand_agent.storage.approvals import ApprovalRepository
from errand_agent.storage.conversations import ConversationRepository, claim
from errand_agent.storage.examples import ExampleRepository
from errand_agent.storage.facts import FactRepository
from errand_agent.storage.models import Base, EventRow, RunRow
from errand_agent.storage.prompts import PromptRepository
from errand_agent.storage.retention import RetentionRepository
from errand_agent.storage.runs import RunRepository, agent_of, principal_of, to_run
from errand_agent.storage.schedules import ScheduleRepository
from errand_agent.storage.webhooks import WebhookRepository
from errand_agent.storage.workflows import WorkflowRepository
from errand_agent.testing.rows import AGENT, PERSON, TENANT, stored
from errand_common.db import Database, utc_now
from errand_common.errors import Conflict
from errand_common.testing.keys import principal
from sqlalchemy.exc import DBAPIError, IntegrityError


async def test_a_run_comes_back_as_it_was_stored(database: Database) -> None:
    run_id = await stored(database)
    step = Step(StepKind.ACT, "calls it", "calculator", '{"expression": "ü"}', usage=Usage(1, 2, 3))
    citation = Citation(1, "c1", "d1", "Handbook", "3 years", 4, 5, 6)
    outcome = Outcome(StopReason.ANSWER, "Ja: [1]", (citation,), Usage(10, 20, 5))
    async with database.transaction(TENANT) as session:
        runs = RunRepository(session)
        row = await session.get_one(RunRow, run_id)
        await runs.append(row, "1.act", [(EventKind.STEP, step.to_json())])
        runs.end(row, outcome, utc_now())
    async with database.transaction(TENANT, read_only=True) as session:
        found = await RunRepository(session).row(TENANT, run_id)
        assert found is not None
        run = to_run(found, await RunRepository(session).steps(TENANT, run_id))
    assert (run.state, run.stop_reason, run.answer) == (RunState.ENDED, StopReason.ANSWER, "Ja: [1]")
    assert (run.citations, run.usage, run.steps) == ((citation,), outcome.usage, (step,))
    assert (principal_of(found), agent_of(found)) == (PERSON, AGENT)


async def test_events_told_at_once_have_no_gaps(database: Database) -> None:
    run_id = await stored(database)

    async def tell(writer: int) -> None:
        for number in range(3):
            async with database.transaction(TENANT) as session:
                row = await session.get_one(RunRow, run_id, with_for_update=True)
                events = [(EventKind.DELTA, {"text": "a"}), (EventKind.DELTA, {"text": "b"})]
                await RunRepository(session).append(row, f"{writer}.{number}", events)

    await asyncio.gather(*(tell(writer) for writer in range(6)))
    async with database.transaction(TENANT, read_only=True) as session:
        events = await RunRepository(session).events(TENANT, run_id, 0)
        after = await RunRepository(session).events(TENANT, run_id, 30)
    assert [event.sequence for event in events] == list(range(1, 38))
    assert [event.sequence for event in after] == list(range(31, 38))


async def test_the_same_key_tells_nothing_twice(database: Database) -> None:
    run_id = await stored(database)
    told = []
    for _ in range(2):
        async with database.transaction(TENANT) as session:
            row = await session.get_one(RunRow, run_id, with_for_update=True)
            told.append(await RunRepository(session).append(row, "1.think", [(EventKind.DELTA, {"text": "x"})]))
    assert told == [True, False]
    async with database.transaction(TENANT, read_only=True) as session:
        assert (await session.get_one(RunRow, run_id)).last_sequence == 2


async def test_a_family_of_runs_has_waited_as_long_as_people_thought(database: Database) -> None:
    own, other = await stored(database, key="wfr_1:a:0"), await stored(database, key="wfr_2:a:0")
    called = await stored(database)
    now = utc_now()
    async with database.transaction(TENANT) as session:
        (await session.get_one(RunRow, called)).parent_run_id = own
        approvals = ApprovalRepository(session)
        for run_id, seconds in ((own, 60), (called, 30), (other, 600)):
            run = await session.get_one(RunRow, run_id)
            for row in await approvals.ask(run, 1, {0: Call("a", "{}"), 1: Call("b", "{}")}, 600):
                row.created_at = now - timedelta(seconds=seconds)
                if run_id == own:
                    approvals.decide(row, ApprovalState.APPROVED, now - timedelta(seconds=20))
    async with database.transaction(TENANT, read_only=True) as session:
        family = await RunRepository(session).family_by_key(TENANT, "wfr_1:")
        assert family == [own, called]
        assert await ApprovalRepository(session).waited_seconds(family, now) == pytest.approx(40 + 30)


async def test_one_idempotency_key_is_one_run(database: Database) -> None:
    run_id = await stored(database, key="key-1")
    with pytest.raises(IntegrityError):
        await stored(database, key="key-1")
    await stored(database), await stored(database)
    async with database.transaction(TENANT) as session:
        found = await RunRepository(session).by_key(PERSON, "key-1")
        assert found is not None
        assert found.id == run_id
        assert await RunRepository(session).by_key(principal(TENANT, "bob"), "key-1") is None


async def test_a_conversation_is_claimed_by_one_run(database: Database) -> None:
    run_id = await stored(database)
    async with database.transaction(TENANT) as session:
        conversations = ConversationRepository(session)
        row = await conversations.row(TENANT, (await session.get_one(RunRow, run_id)).conversation_id, None)
        assert row is not None
        with pytest.raises(Conflict):
            claim(row, "run_other")
        conversations.release(row, "run_other")
        assert row.active_run_id == run_id, "only the run that holds it lets it go"
        conversations.release(row, run_id)
        claim(row, "run_other")


async def test_a_call_is_asked_for_once(database: Database) -> None:
    run_id = await stored(database)
    calls = {0: Call("http_get", "{}"), 2: Call("http_get", '{"url": "x"}')}
    asked: list[int] = []
    for _ in range(2):
        async with database.transaction(TENANT) as session:
            run = await session.get_one(RunRow, run_id)
            asked.append(len(await ApprovalRepository(session).ask(run, 1, calls, 60)))
    assert asked == [2, 0]
    async with database.transaction(TENANT) as session:
        approvals = ApprovalRepository(session)
        rows = await approvals.of_step(run_id, 1)
        assert sorted(rows) == [0, 2]
        assert rows[0].expires_at - rows[0].created_at == timedelta(seconds=60)
        approvals.decide(rows[0], ApprovalState.REFUSED, utc_now(), by="ann", reason="no")
    async with database.transaction(TENANT, read_only=True) as session:
        pending = await ApprovalRepository(session).pending(run_id)
        assert [row.call_index for row in pending] == [2]


async def test_versions_of_an_agent_are_only_added(database: Database) -> None:
    async with database.transaction(TENANT) as session:
        agents = AgentRepository(session)
        await agents.put(TENANT, AGENT, 1)
        await agents.put(TENANT, Agent("helper", instructions="More."), 2)
        found, version = await agents.latest(TENANT, "helper")
        assert found is not None
        assert (found.instructions, version) == ("More.", 2)
        await agents.put(TENANT, found, 3, deleted=True)
        assert await agents.latest(TENANT, "helper") == (None, 3)
        assert await agents.all(TENANT) == []
    with pytest.raises(Conflict):
        async with database.transaction(TENANT) as session:
            await AgentRepository(session).put(TENANT, AGENT, 2)


async def test_deleting_a_conversation_deletes_all_of_it(database: Database) -> None:
    run_id = await stored(database)
    async with database.transaction(TENANT) as session:
        conversations = ConversationRepository(session)
        row = await conversations.row(TENANT, (await session.get_one(RunRow, run_id)).conversation_id, None)
        assert row is not None
        await conversations.delete(row)
    async with database.transaction(TENANT, read_only=True) as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(RunRow)) == 0
        assert await session.scalar(sa.select(sa.func.count()).select_from(EventRow)) == 0


TENANT_TABLES = [table for table in Base.metadata.sorted_tables if "tenant_id" in table.columns]


async def test_only_replicas_and_timers_belong_to_no_tenant() -> None:
    others = {table.name for table in Base.metadata.sorted_tables} - {table.name for table in TENANT_TABLES}
    assert others == {"executors", "timers"}


async def test_postgres_shows_a_tenant_its_own_rows_only(postgres: Database) -> None:
    """Even to a query that forgot the tenant, in every table."""
    await fill(postgres)
    for table in TENANT_TABLES:
        query = sa.select(sa.func.count()).select_from(table)
        for tenant, count in ((TENANT, 1), ("t2", 0), (None, 0)):
            async with postgres.transaction(tenant) as session:
                assert bool(await session.scalar(query)) == bool(count), (table.name, tenant)
        async with postgres.transaction("t2") as session:
            changed: Any = await session.execute(sa.update(table).values(tenant_id="t2"))
            assert changed.rowcount == 0, table.name
    for table in TENANT_TABLES:
        with pytest.raises(DBAPIError, match="row-level security"):
            async with postgres.transaction(TENANT) as session:
                await session.execute(sa.update(table).values(tenant_id="t2"))


async def fill(database: Database) -> None:
    """A row in every table."""
    run_id = await stored(database)
    async with database.transaction(TENANT) as session:
        await AgentRepository(session).put(TENANT, AGENT, 1)
        await RunRepository(session).put_feedback(PERSON, run_id, True, "", "")
        run = await session.get_one(RunRow, run_id)
        await ApprovalRepository(session).ask(run, 1, {0: Call("http_get", "{}")}, 60)
        workflow = Workflow("flow", (Node("a", JoinWork("x")),), 1, 1)
        await WorkflowRepository(session).put(TENANT, workflow, 1)
        await WorkflowRepository(session).begin(PERSON, workflow, "tea")
        await ExampleRepository(session).set_consent(PERSON, True)
        await RetentionRepository(session, TENANT).put(Retention(1))
        webhooks = WebhookRepository(session, TENANT)
        await webhooks.put(Webhook("hook", "https://example.com", (WebhookEvent.RUN_ENDED,)))
        await webhooks.tell(WebhookEvent.RUN_ENDED, run_id, {})
        await PromptRepository(session, TENANT).put(Prompt("tone", "Be kind."), 1)
        await PromptRepository(session, TENANT).set_alias("tone", "live", [Variant(1, 100)])
        await ScheduleRepository(session, TENANT).put(Schedule("daily", "0 7 * * *", "hello"), PERSON)
        await FactRepository(session).add(TENANT, PERSON.id, Fact("I like tea."), utc_now())
