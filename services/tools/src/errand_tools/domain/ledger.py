"""Sends each effect once, and settles those whose outcome a crash hid."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from errand_common.errors import Conflict

from errand_tools.domain.effects import (
    CallPosition,
    Dispatch,
    Effect,
    EffectState,
    arguments_hash,
    effect_id,
)
from errand_tools.domain.ports import EffectStore
from errand_tools.domain.tools import (
    ExecutionStatus,
    JsonObject,
    Outcome,
    OutcomeUnknown,
    SideEffect,
    failure,
)

_UNSETTLED_MESSAGE = "It is not known whether this call took effect; do not call the tool again, a person checks it."
_POLL_SECONDS = 0.1
# Beyond the call's own limit: storing the outcome, and clocks that differ between replicas.
_LEASE_MARGIN_SECONDS = 5.0
_PURGE_EVERY = timedelta(hours=1)
_PURGE_MOST = 5_000
_PURGE_TENANTS = 10_000


class EffectAbsent(Exception):  # noqa: N818  an answer, not a fault
    """The query tool says that the effect did not happen."""


@dataclass(frozen=True, slots=True)
class EffectCall:
    """A call with side effects, and how to send it and to ask for it.

    `send` gives the outcome or raises OutcomeUnknown. `query` gives the outcome the effect had,
    raises EffectAbsent when it surely did not happen, and OutcomeUnknown when nobody can tell.
    """

    tenant_id: str
    position: CallPosition
    tool_name: str
    arguments: JsonObject
    side_effect: SideEffect
    timeout_seconds: float
    send: Callable[[str], Awaitable[Outcome]]
    query: Callable[[], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class _Running:
    arguments_hash: str
    tool_name: str
    task: asyncio.Task[Outcome]


class EffectLedger:
    """Runs calls with side effects through the ledger.

    `owner` names this process start; a dispatch of another owner is in doubt once its lease is
    over, or at once where the store knows that no other process can be alive.
    """

    def __init__(
        self,
        store: EffectStore,
        *,
        owner: str,
        clock: Callable[[], datetime],
        retention_days: float = 90,
    ) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._purged: dict[str, datetime] = {}
        self._running: dict[str, _Running] = {}

    async def run(self, call: EffectCall) -> Outcome:
        """The outcome, stored or new.

        The work outlives a caller that goes away: once sent, its outcome must be stored. Raises
        Conflict when the same position of a run was used with other arguments.
        """
        id_ = effect_id(call.tenant_id, call.position)
        hash_ = arguments_hash(call.arguments)
        running = self._running.get(id_)
        if running is not None:
            _check_same(id_, (running.tool_name, running.arguments_hash), (call.tool_name, hash_))
            return replace(await asyncio.shield(running.task), replayed=True)
        task = asyncio.create_task(self._run(call, id_, hash_))
        self._running[id_] = _Running(hash_, call.tool_name, task)
        task.add_done_callback(lambda _: self._running.pop(id_, None))
        return await asyncio.shield(task)

    async def stored(
        self, tenant_id: str, position: CallPosition, tool_name: str, arguments: JsonObject
    ) -> Outcome | None:
        """The stored outcome of a call whose tool can not be run any more, or None."""
        effect = await self._store.get(tenant_id, effect_id(tenant_id, position))
        if effect is None:
            return None
        _check_same(
            effect.id,
            (effect.tool_name, effect.arguments_hash),
            (tool_name, arguments_hash(arguments)),
        )
        if effect.outcome is not None:
            return _replayed(effect)
        return _unsettled(effect.id)

    async def drain(self, seconds: float) -> None:
        """Waits for the calls that were sent, at most `seconds`."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _run(self, call: EffectCall, id_: str, hash_: str) -> Outcome:
        dispatch = Dispatch(
            effect_id=id_,
            position=call.position,
            tool_name=call.tool_name,
            arguments_hash=hash_,
            side_effect=call.side_effect,
            owner=self._owner,
            lease_until=self._lease(call),
        )
        await self._purge(call.tenant_id)
        while True:
            effect = await self._store.begin(call.tenant_id, dispatch, self._clock())
            if effect is None:
                return await self._send(call, id_)
            known = await self._continue(call, effect, hash_)
            if known is not None:
                return known

    async def _continue(self, call: EffectCall, effect: Effect, hash_: str) -> Outcome | None:
        """The outcome of an effect that is in the ledger; None when it must be looked at again."""
        _check_same(effect.id, (effect.tool_name, effect.arguments_hash), (call.tool_name, hash_))
        if effect.state is EffectState.COMPLETED:
            return _replayed(effect)
        if effect.state is EffectState.DISPATCHED and not self._is_lost(effect):
            await asyncio.sleep(_POLL_SECONDS)
            return None
        if effect.state is EffectState.UNSETTLED and effect.side_effect is SideEffect.ASK:
            return _unsettled(effect.id)
        return await self._settle(call, effect)

    def _is_lost(self, effect: Effect) -> bool:
        """Whether nobody runs it any more; calls of this process were looked for before."""
        return effect.owner == self._owner or self._store.exclusive or effect.lease_until < self._clock()

    async def _settle(self, call: EffectCall, effect: Effect) -> Outcome | None:
        claimed = await self._store.take_over(
            call.tenant_id,
            effect,
            owner=self._owner,
            now=self._clock(),
            lease_until=self._lease(call),
        )
        if not claimed:
            return None
        if effect.side_effect is SideEffect.ASK:
            return await self._leave_unsettled(call, effect.id)
        if effect.side_effect is SideEffect.RECONCILE:
            try:
                return await self._ask(call, effect.id)
            except EffectAbsent:
                pass
        return await self._send(call, effect.id)

    async def _send(self, call: EffectCall, id_: str) -> Outcome:
        try:
            outcome = await call.send(id_)
        except OutcomeUnknown as unknown:
            return await self._lost_answer(call, id_, unknown)
        return await self._complete(call, id_, outcome)

    async def _lost_answer(self, call: EffectCall, id_: str, unknown: OutcomeUnknown) -> Outcome:
        """Sent, and the connection or the time ended before the answer."""
        if call.side_effect is SideEffect.RECONCILE:
            try:
                return await self._ask(call, id_)
            except EffectAbsent:
                absent = failure(unknown.status, f"{unknown.message} It did not take effect.")
                return await self._complete(call, id_, absent)
        outcome = await self._leave_unsettled(call, id_)
        if call.side_effect is SideEffect.ASK:
            return outcome
        return failure(unknown.status, f"{unknown.message} {_UNSETTLED_MESSAGE}", effect_id=id_)

    async def _ask(self, call: EffectCall, id_: str) -> Outcome:
        try:
            outcome = await call.query()
        except OutcomeUnknown:
            return await self._leave_unsettled(call, id_)
        return await self._complete(call, id_, outcome)

    async def _complete(self, call: EffectCall, id_: str, outcome: Outcome) -> Outcome:
        named = replace(outcome, effect_id=id_)
        await self._store.complete(call.tenant_id, id_, named, owner=self._owner, now=self._clock())
        return named

    async def _leave_unsettled(self, call: EffectCall, id_: str) -> Outcome:
        await self._store.leave_unsettled(call.tenant_id, id_, owner=self._owner, now=self._clock())
        return _unsettled(id_)

    async def _purge(self, tenant_id: str) -> None:
        """Removes a tenant's old effects now and then, a bounded number at a time."""
        now = self._clock()
        last = self._purged.get(tenant_id)
        if last is not None and now - last < _PURGE_EVERY:
            return
        if len(self._purged) >= _PURGE_TENANTS:
            self._purged.clear()
        self._purged[tenant_id] = now
        await self._store.purge(tenant_id, completed_before=now - self._retention, most=_PURGE_MOST)

    def _lease(self, call: EffectCall) -> datetime:
        # A query may follow the call itself within the same hold.
        seconds = 2 * call.timeout_seconds + _LEASE_MARGIN_SECONDS
        return self._clock() + timedelta(seconds=seconds)


def _check_same(id_: str, stored: tuple[str, str], asked: tuple[str, str]) -> None:
    if stored != asked:
        raise Conflict(
            "this run, step and call_index were used for another tool or other arguments;"
            " give a new call its own call_index",
            resource="effect",
            id=id_,
        )


def _replayed(effect: Effect) -> Outcome:
    if effect.outcome is None:
        return _unsettled(effect.id)
    return replace(effect.outcome, effect_id=effect.id, replayed=True, cost_micros=0)


def _unsettled(id_: str) -> Outcome:
    return failure(ExecutionStatus.UNSETTLED, _UNSETTLED_MESSAGE, effect_id=id_)
