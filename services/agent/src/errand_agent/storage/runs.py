"""Every query on runs, their events and feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import sqlalchemy as sa
from errand_common.db import UtcDateTime, decode_page_token, encode_page_token, utc_now
from errand_common.principal import Principal
from errand_common.statements import Statement, Work
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from errand_agent.domain.agents import Agent
from errand_agent.domain.approvals import ApprovalState
from errand_agent.domain.runs import (
    Citation,
    EventKind,
    Outcome,
    Priority,
    Run,
    RunEvent,
    RunState,
    Step,
    StopReason,
    Usage,
)
from errand_agent.storage.models import ApprovalRow, EventRow, FeedbackRow, RunRow, WebhookRow

_RUNS, _EVENTS = cast("sa.Table", RunRow.__table__), cast("sa.Table", EventRow.__table__)
_IS_RUN = (_RUNS.c.id == sa.bindparam("of_run"), _RUNS.c.tenant_id == sa.bindparam("of_tenant"))
# Gives whether the run shall end. Who tells of a run at once with others waits here, and then sees what they told.
_LOCK = Statement(sa.select(_RUNS.c.cancel_requested).where(*_IS_RUN).with_for_update())
_LAST = sa.select(sa.func.max(_EVENTS.c.sequence)).where(_EVENTS.c.run_id == _RUNS.c.id)
_MOST_AT_ONCE = 16


@lru_cache(maxsize=_MOST_AT_ONCE)
def _telling(count: int) -> Statement:
    """Appends so many events, each without those of keys that were told before; those of this transaction are not."""
    types: dict[str, Any] = {
        "place": sa.Integer,
        "key": sa.Text,
        "kind": sa.Text,
        "payload": sa.JSON,
        "at": UtcDateTime,
    }
    rows = [tuple(sa.bindparam(f"{name}_{row}", type_=of) for name, of in types.items()) for row in range(count)]
    told = sa.values(*(sa.column(name, of) for name, of in types.items()), name="told").data(rows).cte("told")
    before = sa.exists().where(
        _EVENTS.c.run_id == _RUNS.c.id,
        _EVENTS.c.key == told.c.key,
        _EVENTS.c.sequence <= _RUNS.c.last_sequence,
    )
    number = sa.func.row_number().over(order_by=told.c.place)
    return Statement(
        sa.insert(_EVENTS).from_select(
            ["run_id", "sequence", "tenant_id", "key", "kind", "payload", "at"],
            sa.select(
                _RUNS.c.id,
                sa.func.coalesce(_LAST.scalar_subquery(), 0) + number,
                _RUNS.c.tenant_id,
                told.c.key,
                told.c.kind,
                told.c.payload,
                told.c.at,
            )
            .select_from(sa.join(_RUNS, told, sa.true()))
            .where(*_IS_RUN, ~before),
        )
    )


_COUNT = Statement(
    sa.update(_RUNS)
    .where(*_IS_RUN)
    .values(last_sequence=sa.func.coalesce(_LAST.scalar_subquery(), 0))
    .returning(_RUNS.c.last_sequence)
)
Event = tuple[EventKind, dict[str, Any]]
# Events, and what told them.
Keyed = tuple[str, Sequence[Event]]


def appending(tenant_id: str, run_id: str, *keyed: Keyed) -> list[Work]:
    """What appends events to a run: the first statement gives whether it shall end, the last its last sequence."""
    run = {"of_run": run_id, "of_tenant": tenant_id}
    return [(_LOCK, run), *_appending_locked(run, *keyed)]


def _appending_locked(run: dict[str, str], *keyed: Keyed) -> list[Work]:
    told = [(key, kind.value, payload) for key, events in keyed for kind, payload in events]
    batches = [told[start : start + _MOST_AT_ONCE] for start in range(0, len(told), _MOST_AT_ONCE)]
    return [*((_telling(len(batch)), run | _told(batch)) for batch in batches), (_COUNT, run)]


def _told(batch: Sequence[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for row, (key, kind, payload) in enumerate(batch):
        told = {"place": row, "key": key, "kind": kind, "payload": payload, "at": utc_now()}
        values |= {f"{name}_{row}": value for name, value in told.items()}
    return values


def to_run(row: RunRow, steps: Sequence[Step] = ()) -> Run:
    """The domain's run."""
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        principal_id=row.principal_id,
        conversation_id=row.conversation_id,
        agent=row.agent,
        message=row.message,
        state=RunState(row.state),
        created_at=row.created_at,
        stop_reason=StopReason(row.stop_reason) if row.stop_reason else None,
        answer=row.answer,
        citations=tuple(Citation(**citation) for citation in row.citations),
        usage=Usage(**row.usage),
        last_sequence=row.last_sequence,
        ended_at=row.ended_at,
        cancel_requested=row.cancel_requested,
        steps=tuple(steps),
        cost_micros=row.cost_micros,
        forked_from=row.forked_from or "",
        parent_run_id=row.parent_run_id or "",
        paused_seconds=row.paused_seconds,
        prompt=f"{row.prompt_name}:{row.prompt_version}" if row.prompt_name else "",
        priority=Priority(row.priority),
        waiting=row.waiting,
        start_at=row.start_at,
    )


def principal_of(row: RunRow) -> Principal:
    """Who the run works for."""
    return Principal(row.tenant_id, row.principal_id, frozenset(row.roles), frozenset(row.scopes), row.request_id)


def agent_of(row: RunRow) -> Agent:
    """The agent as it was defined when the run began."""
    return Agent.from_json(row.definition)


class RunRepository:
    """Runs of one transaction's tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(
        self,
        run: Run,
        principal: Principal,
        agent: Agent,
        idempotency_key: str,
        trace: dict[str, str] | None = None,
    ) -> RunRow:
        """Stores a new run; one that is `RUNNING` begins now."""
        row = RunRow(
            id=run.id,
            tenant_id=run.tenant_id,
            principal_id=run.principal_id,
            roles=sorted(principal.roles),
            scopes=sorted(principal.scopes),
            request_id=principal.request_id,
            conversation_id=run.conversation_id,
            agent=run.agent,
            definition=asdict(agent),
            message=run.message,
            state=run.state.value,
            answer="",
            citations=[],
            usage=asdict(Usage()),
            last_sequence=0,
            cancel_requested=False,
            idempotency_key=idempotency_key or None,
            forked_from=run.forked_from or None,
            parent_run_id=run.parent_run_id or None,
            prompt_name=run.prompt.rpartition(":")[0],
            prompt_version=int(run.prompt.rpartition(":")[2] or 0),
            priority=run.priority.value,
            waiting=run.waiting,
            start_at=run.start_at,
            started_at=run.created_at if run.state is RunState.RUNNING else None,
            trace=trace or {},
            cost_micros=0,
            paused_seconds=0.0,
            created_at=run.created_at,
        )
        self._session.add(row)
        await self._session.flush()
        return row

    async def copy_events(self, row: RunRow, origin_id: str, *, before: str | None) -> None:
        """Copies the origin's events up to the first one whose key begins so, or its end."""
        origin = sa.select(EventRow).where(EventRow.run_id == origin_id, EventRow.tenant_id == row.tenant_id)
        copied = await self._session.scalars(origin.order_by(EventRow.sequence))
        for event in list(copied):
            if event.kind == EventKind.ENDED.value or (before is not None and event.key.startswith(before)):
                break
            row.last_sequence += 1
            payload = event.payload
            if event.kind == EventKind.STARTED.value:
                payload = {"conversation_id": row.conversation_id, "agent": row.agent}
            copy = {"tenant_id": row.tenant_id, "key": event.key, "kind": event.kind, "payload": payload}
            self._session.add(EventRow(run_id=row.id, sequence=row.last_sequence, at=utc_now(), **copy))
        await self._session.flush()

    async def row(self, tenant_id: str, run_id: str, *, locked: bool = False) -> RunRow | None:
        """The run's row."""
        found = await self._session.get(RunRow, run_id, with_for_update=locked)
        return found if found is not None and found.tenant_id == tenant_id else None

    async def by_key(self, principal: Principal, key: str) -> RunRow | None:
        """The run an idempotency key of this principal stands for."""
        found: RunRow | None = await self._session.scalar(
            sa.select(RunRow).where(
                RunRow.tenant_id == principal.tenant_id,
                RunRow.principal_id == principal.id,
                RunRow.idempotency_key == key,
            )
        )
        return found

    async def active_by_key(self, tenant_id: str, prefix: str) -> list[str]:
        """Runs that have not ended and whose idempotency key begins so."""
        query = sa.select(RunRow.id).where(
            RunRow.tenant_id == tenant_id,
            RunRow.state != RunState.ENDED.value,
            RunRow.idempotency_key.startswith(prefix, autoescape=True),
        )
        return list(await self._session.scalars(query))

    async def family_by_key(self, tenant_id: str, prefix: str) -> list[str]:
        """Runs whose idempotency key begins so, and all that they called."""
        own = sa.select(RunRow.id).where(
            RunRow.tenant_id == tenant_id, RunRow.idempotency_key.startswith(prefix, autoescape=True)
        )
        below = list(await self._session.scalars(own))
        found: list[str] = []
        while below:
            found += below
            called = sa.select(RunRow.id).where(RunRow.tenant_id == tenant_id, RunRow.parent_run_id.in_(below))
            below = list(await self._session.scalars(called))
        return found

    async def called_by(self, tenant_id: str, run_id: str) -> list[str]:
        """Runs that have not ended and that this one called."""
        query = sa.select(RunRow.id).where(
            RunRow.tenant_id == tenant_id, RunRow.parent_run_id == run_id, RunRow.state != RunState.ENDED.value
        )
        return list(await self._session.scalars(query))

    async def asking_below(self, tenant_id: str, run_id: str) -> list[str]:
        """Runs that wait for a person and that this one called, or one of those did."""
        asking = sa.select(RunRow.id).where(RunRow.tenant_id == tenant_id, RunRow.state == RunState.WAITING.value)
        found: list[str] = []
        above = [run_id]
        while above:
            below = asking.where(RunRow.parent_run_id.in_(above)).order_by(RunRow.id)
            above = list(await self._session.scalars(below))
            found += above
        return found

    async def next_waiting(self, conversation_id: str, now: datetime) -> RunRow | None:
        """The run that waits longest for this conversation, its time having come."""
        found: RunRow | None = await self._session.scalar(
            sa.select(RunRow)
            .where(
                RunRow.conversation_id == conversation_id,
                RunRow.waiting.is_(True),
                sa.or_(RunRow.start_at.is_(None), RunRow.start_at <= now),
            )
            .order_by(RunRow.id)
            .limit(1)
            .with_for_update()
        )
        return found

    async def count_waiting(self, conversation_id: str) -> int:
        """Runs that wait for this conversation or their time."""
        query = sa.select(sa.func.count()).where(RunRow.conversation_id == conversation_id, RunRow.waiting.is_(True))
        return await self._session.scalar(query) or 0

    async def ids_of(self, tenant_id: str, person: str | None, *, active: bool = False) -> list[str]:
        """Runs of a person, or (None) of all; with `active` those that have not ended."""
        query = sa.select(RunRow.id).where(RunRow.tenant_id == tenant_id)
        if person is not None:
            query = query.where(RunRow.principal_id == person)
        if active:
            query = query.where(RunRow.state != RunState.ENDED.value)
        return list(await self._session.scalars(query))

    async def depth(self, tenant_id: str, run_id: str, most: int) -> int:
        """How many runs stand above this one, itself included; counted up to `most`."""
        above, count = run_id, 0
        while above and count < most:
            row = await self.row(tenant_id, above)
            above, count = (row.parent_run_id or "" if row is not None else ""), count + 1
        return count

    async def page(
        self,
        tenant_id: str,
        owner: str | None,
        *,
        conversation_id: str,
        state: RunState | None,
        size: int,
        token: str,
        agent: str = "",
        stop_reasons: Sequence[StopReason] = (),
        parent_run_id: str = "",
    ) -> tuple[list[RunRow], str]:
        """Runs, newest first, of one owner or (None) of all, and the next page's token."""
        query = sa.select(RunRow).where(RunRow.tenant_id == tenant_id).order_by(RunRow.id.desc()).limit(size + 1)
        if owner is not None:
            query = query.where(RunRow.principal_id == owner)
        if conversation_id:
            query = query.where(RunRow.conversation_id == conversation_id)
        if state is not None:
            query = query.where(RunRow.state == state.value)
        if agent:
            query = query.where(RunRow.agent == agent)
        if parent_run_id:
            query = query.where(RunRow.parent_run_id == parent_run_id)
        if stop_reasons:
            query = query.where(RunRow.stop_reason.in_([reason.value for reason in stop_reasons]))
        if (before := decode_page_token(token, length=1)) is not None:
            query = query.where(RunRow.id < str(before[0]))
        rows = list(await self._session.scalars(query))
        more = encode_page_token([rows[size - 1].id]) if len(rows) > size else ""
        return rows[:size], more

    async def append(self, row: RunRow, key: str, events: Sequence[Event]) -> bool:
        """Appends events in order to a run that is locked or new; false when this key's events are there already."""
        return await self.append_all(row, (key, events))

    async def append_all(self, row: RunRow, *keyed: Keyed) -> bool:
        """The same with events of several keys; false when all are there already."""
        await self._session.flush()
        run = {"of_run": row.id, "of_tenant": row.tenant_id}
        for statement, values in _appending_locked(run, *keyed):
            result = await self._session.execute(statement.clause, dict(values))
        before, sequence = row.last_sequence, result.scalar_one()
        set_committed_value(row, "last_sequence", sequence)
        return bool(sequence > before)

    async def has_key(self, run_id: str, prefix: str) -> bool:
        """Whether any event's key begins so."""
        query = sa.select(EventRow.sequence).where(EventRow.run_id == run_id, EventRow.key.startswith(prefix)).limit(1)
        return await self._session.scalar(query) is not None

    async def events(self, tenant_id: str, run_id: str, after: int, limit: int = 500) -> list[RunEvent]:
        """Events after a sequence number, in order."""
        query = (
            sa.select(EventRow)
            .where(EventRow.tenant_id == tenant_id, EventRow.run_id == run_id, EventRow.sequence > after)
            .order_by(EventRow.sequence)
            .limit(limit)
        )
        rows = await self._session.scalars(query)
        return [RunEvent(row.sequence, row.at, EventKind(row.kind), row.payload) for row in rows]

    async def steps(self, tenant_id: str, run_id: str) -> list[Step]:
        """The run's steps, in order."""
        query = (
            sa.select(EventRow.payload)
            .where(EventRow.tenant_id == tenant_id, EventRow.run_id == run_id, EventRow.kind == EventKind.STEP.value)
            .order_by(EventRow.sequence)
        )
        return [Step.from_json(payload) for payload in await self._session.scalars(query)]

    async def told_approvals(self, tenant_id: str, run_id: str) -> list[str]:
        """Ids of the approvals that the run's events tell of."""
        query = sa.select(EventRow.payload).where(
            EventRow.tenant_id == tenant_id, EventRow.run_id == run_id, EventRow.kind == EventKind.APPROVAL.value
        )
        return [str(payload["id"]) for payload in await self._session.scalars(query)]

    async def steps_until(self, tenant_id: str, run_id: str, sequence: int) -> int:
        """Steps among the events up to this one."""
        query = sa.select(sa.func.count()).where(
            EventRow.tenant_id == tenant_id,
            EventRow.run_id == run_id,
            EventRow.kind == EventKind.STEP.value,
            EventRow.sequence <= sequence,
        )
        return await self._session.scalar(query) or 0

    async def concerned(self, row: RunRow) -> tuple[bool, bool, bool]:
        """Whether others wait for its conversation, it asks people something, and webhooks may be told of its end.

        One question in place of three: most ends concern nobody.
        """
        found = await self._session.execute(
            sa.select(
                sa.exists().where(RunRow.conversation_id == row.conversation_id, RunRow.waiting.is_(True)),
                sa.exists().where(ApprovalRow.run_id == row.id, ApprovalRow.state == ApprovalState.PENDING.value),
                sa.exists().where(WebhookRow.tenant_id == row.tenant_id),
            )
        )
        wait, asks, told = found.one()
        return bool(wait), bool(asks), bool(told)

    def end(self, row: RunRow, outcome: Outcome, at: datetime) -> None:
        """Stores how the run ended."""
        row.state, row.stop_reason, row.answer = RunState.ENDED.value, outcome.stop_reason.value, outcome.answer
        row.citations = [asdict(citation) for citation in outcome.citations]
        row.usage, row.cost_micros, row.ended_at = asdict(outcome.usage), outcome.cost_micros, at
        row.paused_seconds = outcome.paused_seconds

    async def put_feedback(
        self, principal: Principal, run_id: str, helpful: bool, comment: str, correction: str
    ) -> None:
        """Stores a person's feedback, in place of an earlier one."""
        await self._session.merge(
            FeedbackRow(
                run_id=run_id,
                principal_id=principal.id,
                tenant_id=principal.tenant_id,
                helpful=helpful,
                comment=comment,
                correction=correction,
                created_at=utc_now(),
            )
        )
