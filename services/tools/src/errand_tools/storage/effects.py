"""The effect ledger in the database."""

from datetime import datetime
from typing import Any, cast

from errand_common.db import Database
from errand_common.statements import Statement
from sqlalchemy import Table, Update, and_, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from errand_tools.domain.effects import (
    CallPosition,
    Dispatch,
    Effect,
    EffectFilter,
    EffectState,
    parse_cursor,
)
from errand_tools.domain.ports import EffectStore, Page
from errand_tools.domain.tools import ExecutionStatus, Outcome, SideEffect
from errand_tools.storage.models import EffectRow

_TABLE = cast("Table", EffectRow.__table__)
_COLUMNS = [column.name for column in _TABLE.c if column.name not in ("completed_at", "status", "result_json")]
_OUTCOME = ("state", "status", "result_json", "duration_ms", "truncated", "completed_at")
# An effect is these two statements, each a commit of its own: one before it is sent, one after.
_BEGIN = Statement(
    insert(_TABLE)
    .values({column: bindparam(column) for column in _COLUMNS})
    .on_conflict_do_nothing()
    .returning(_TABLE.c.id)
)
_COMPLETE = Statement(
    update(_TABLE)
    .where(
        _TABLE.c.tenant_id == bindparam("of_tenant"),
        _TABLE.c.id == bindparam("of_effect"),
        _TABLE.c.owner == bindparam("of_owner"),
        _TABLE.c.state == EffectState.DISPATCHED.value,
    )
    .values({column: bindparam(column) for column in _OUTCOME})
    .returning(_TABLE.c.id)
)


class SqlEffectStore(EffectStore):
    """Each change is one statement in one transaction; its condition decides races."""

    def __init__(self, database: Database, *, exclusive: bool) -> None:
        self._database = database
        self._exclusive = exclusive

    @property
    def exclusive(self) -> bool:
        return self._exclusive

    async def begin(self, tenant_id: str, dispatch: Dispatch, now: datetime) -> Effect | None:
        while True:
            # On the disk before anything is sent: a machine that crashes must know what may have been done.
            work = (_BEGIN, _dispatched(tenant_id, dispatch, now))
            [new] = await self._database.run(tenant_id, work, durable=True)
            if new:
                return None
            # What was purged in between is stored anew: None must mean that the dispatch is in the ledger.
            if (known := await self.get(tenant_id, dispatch.effect_id)) is not None:
                return known

    async def take_over(
        self, tenant_id: str, effect: Effect, *, owner: str, now: datetime, lease_until: datetime
    ) -> bool:
        statement = (
            _update(tenant_id, effect.id)
            .where(
                EffectRow.attempt == effect.attempt,
                EffectRow.state != EffectState.COMPLETED.value,
            )
            .values(
                state=EffectState.DISPATCHED.value,
                owner=owner,
                attempt=effect.attempt + 1,
                lease_until=lease_until,
            )
        )
        return await self._changed(tenant_id, statement)

    async def complete(self, tenant_id: str, effect_id: str, outcome: Outcome, *, owner: str, now: datetime) -> bool:
        held = {"of_tenant": tenant_id, "of_effect": effect_id, "of_owner": owner}
        # A database that crashes may forget this row's end, not its dispatch: the effect is in doubt then and is
        # settled by its class, so the call need not wait for the disk a second time.
        work = (_COMPLETE, {**held, **_completed(outcome, now)})
        [changed] = await self._database.run(tenant_id, work, relaxed=True)
        return bool(changed)

    async def leave_unsettled(self, tenant_id: str, effect_id: str, *, owner: str, now: datetime) -> bool:
        statement = _held(tenant_id, effect_id, owner).values(state=EffectState.UNSETTLED.value)
        return await self._changed(tenant_id, statement)

    async def settle(self, tenant_id: str, effect_id: str, outcome: Outcome, now: datetime) -> Effect | None:
        statement = (
            _update(tenant_id, effect_id)
            .where(EffectRow.state == EffectState.UNSETTLED.value)
            .values(_completed(outcome, now))
        )
        if not await self._changed(tenant_id, statement):
            return None
        return await self.get(tenant_id, effect_id)

    async def get(self, tenant_id: str, effect_id: str) -> Effect | None:
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.get(EffectRow, (tenant_id, effect_id))
            return _from_row(row) if row else None

    async def list(self, tenant_id: str, page: Page, only: EffectFilter) -> list[Effect]:
        query = (
            select(EffectRow)
            .where(EffectRow.tenant_id == tenant_id)
            .order_by(EffectRow.created_at.desc(), EffectRow.id.desc())
            .limit(page.size)
        )
        if only.run_id:
            query = query.where(EffectRow.run_id == only.run_id)
        if only.state is not None:
            query = query.where(EffectRow.state == only.state.value)
        if page.after:
            created, id_ = parse_cursor(page.after)
            same_moment = and_(EffectRow.created_at == created, EffectRow.id < id_)
            query = query.where(or_(EffectRow.created_at < created, same_moment))
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return [_from_row(row) for row in await session.scalars(query)]

    async def purge(self, tenant_id: str, *, completed_before: datetime, most: int) -> int:
        old = (
            select(EffectRow.id)
            .where(
                EffectRow.tenant_id == tenant_id,
                EffectRow.completed_at < completed_before,
            )
            .limit(most)
        )
        statement = (
            delete(EffectRow).where(EffectRow.tenant_id == tenant_id, EffectRow.id.in_(old)).returning(EffectRow.id)
        )
        async with self._database.transaction(tenant_id) as session:
            return len((await session.scalars(statement)).all())

    async def _changed(self, tenant_id: str, statement: Update) -> bool:
        async with self._database.transaction(tenant_id) as session:
            returned = await session.execute(statement.returning(EffectRow.id))
            return returned.first() is not None


def _update(tenant_id: str, effect_id: str) -> Update:
    return update(EffectRow).where(EffectRow.tenant_id == tenant_id, EffectRow.id == effect_id)


def _held(tenant_id: str, effect_id: str, owner: str) -> Update:
    return _update(tenant_id, effect_id).where(
        EffectRow.owner == owner, EffectRow.state == EffectState.DISPATCHED.value
    )


def _dispatched(tenant_id: str, dispatch: Dispatch, now: datetime) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "id": dispatch.effect_id,
        "run_id": dispatch.position.run_id,
        "step": dispatch.position.step,
        "call_index": dispatch.position.call_index,
        "tool_name": dispatch.tool_name,
        "arguments_hash": dispatch.arguments_hash,
        "side_effect": dispatch.side_effect.value,
        "state": EffectState.DISPATCHED.value,
        "owner": dispatch.owner,
        "attempt": 1,
        "lease_until": dispatch.lease_until,
        "created_at": now,
        "duration_ms": 0.0,
        "truncated": False,
    }


def _completed(outcome: Outcome, now: datetime) -> dict[str, Any]:
    return {
        "state": EffectState.COMPLETED.value,
        "status": outcome.status.value,
        "result_json": outcome.result_json,
        "duration_ms": outcome.duration_ms,
        "truncated": outcome.truncated,
        "completed_at": now,
    }


def _from_row(row: EffectRow) -> Effect:
    return Effect(
        id=row.id,
        position=CallPosition(row.run_id, row.step, row.call_index),
        tool_name=row.tool_name,
        arguments_hash=row.arguments_hash,
        side_effect=SideEffect(row.side_effect),
        state=EffectState(row.state),
        owner=row.owner,
        attempt=row.attempt,
        lease_until=row.lease_until,
        created_at=row.created_at,
        completed_at=row.completed_at,
        outcome=_outcome(row),
    )


def _outcome(row: EffectRow) -> Outcome | None:
    if row.status is None or row.result_json is None:
        return None
    return Outcome(
        ExecutionStatus(row.status),
        row.result_json,
        row.duration_ms,
        truncated=row.truncated,
        effect_id=row.id,
    )
