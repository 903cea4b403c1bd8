"""Deleting a tenant: its credentials are refused at once, then service after service is emptied until nothing is found.

What is asked for is stored first; any gateway carries it on, and one that dies is replaced when its lease is over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from errand_common.errors import Conflict, ErrandError
from errand_common.principal import Principal

from errand_gateway.domain.permissions import OPERATOR_TENANT, Role, Scope
from errand_gateway.domain.records import AuditEvent

LEASE: Final = timedelta(minutes=5)
"""How long a gateway that has said nothing, having died, keeps others from going on; longer than any step."""

_OWN: Final = "gateway"
_POLL_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_OWNER: Final = frozenset({Role.OWNER.value})
_ALL_SCOPES: Final = frozenset(scope.value for scope in Scope)


class DeletionState(StrEnum):
    """How far it is."""

    RUNNING = "running"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class TenantDeletion:
    """The deletion of a tenant; `erased` counts rows by service and kind, `waits_for` is what held the last look up."""

    tenant_id: str
    state: DeletionState
    requested_by: str
    request_id: str
    requested_at: datetime
    completed_at: datetime | None = None
    looks: int = 0
    failures: int = 0
    waits_for: str = ""
    erased: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class DeletionStore(Protocol):
    """Where deletions are kept, for all gateways."""

    async def begin(self, deletion: TenantDeletion) -> TenantDeletion:
        """Stores it and marks the tenant; the one there is when it was asked for before. Raises NotFound."""
        ...

    async def get(self, tenant_id: str) -> TenantDeletion:
        """One deletion; raises NotFound."""
        ...

    async def claim(self, owner: str, *, now: datetime, lease: timedelta) -> TenantDeletion | None:
        """One that is due and that nobody works on, for this owner; None when there is none."""
        ...

    async def keep(self, deletion: TenantDeletion, owner: str, *, until: datetime) -> bool:
        """Stores how far it is and keeps the lease until then; false when somebody else has it."""
        ...

    async def release(self, deletion: TenantDeletion, owner: str, *, due_at: datetime) -> None:
        """Stores how far it is and lets go; one that is completed marks the tenant as deleted."""
        ...


Eraser = Callable[[str], Awaitable[Mapping[str, int]]]
"""Deletes what one service has of the acting principal's tenant; how many of what, empty when there was nothing."""


class TenantDeletions:
    """Takes orders to delete tenants and carries them out.

    It is complete when a look that began `settle` after the order, when nobody's cached credential is good any
    more, finds nothing in any service.
    """

    def __init__(
        self,
        store: DeletionStore,
        erasers: Mapping[str, Eraser],
        *,
        owner: str,
        acting_as: Callable[[Principal], AbstractContextManager[None]],
        record: Callable[[AuditEvent], None],
        on_failure: Callable[[str, Exception], None],
        settle: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._erasers = erasers
        self._owner = owner
        self._acting_as = acting_as
        self._record = record
        self._on_failure = on_failure
        self._settle = settle
        self._now = now
        self._asked = asyncio.Event()

    async def order(self, tenant_id: str, caller: Principal) -> TenantDeletion:
        """Begins a deletion, or tells of the one there is. Raises NotFound, Conflict for the operator's tenant."""
        if tenant_id == OPERATOR_TENANT:
            raise Conflict("the operator's own tenant cannot be deleted", resource="tenant", id=tenant_id)
        wanted = TenantDeletion(tenant_id, DeletionState.RUNNING, caller.id, caller.request_id, self._now())
        found = await self._store.begin(wanted)
        self._asked.set()
        return found

    async def get(self, tenant_id: str) -> TenantDeletion:
        """How far it is; raises NotFound."""
        return await self._store.get(tenant_id)

    async def run(self) -> None:
        """Carries on what is due, for ever."""
        while True:
            self._asked.clear()
            try:
                while deletion := await self._store.claim(self._owner, now=self._now(), lease=LEASE):
                    await self._look(deletion)
            except Exception as error:
                self._on_failure(_OWN, error)
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _look(self, deletion: TenantDeletion) -> None:
        try:
            await self._look_into_all(deletion)
        except asyncio.CancelledError:
            # This gateway ends: another one goes on at once.
            await self._store.release(await self.get(deletion.tenant_id), self._owner, due_at=self._now())
            raise

    async def _look_into_all(self, deletion: TenantDeletion) -> None:
        began = self._now()
        found, waits_for = 0, ""
        for service, erase in self._erasers.items():
            try:
                erased = await self._erased(erase, deletion)
            except Exception as error:
                self._on_failure(service, error)
                waits_for = f"{service}: {error.message if isinstance(error, ErrandError) else 'it failed'}"
                continue
            found += sum(erased.values())
            deletion = replace(deletion, erased=_added(deletion.erased, service, erased))
            if not await self._store.keep(deletion, self._owner, until=self._now() + LEASE):
                return
        deletion = replace(
            deletion,
            looks=deletion.looks + 1,
            failures=deletion.failures + 1 if waits_for else 0,
            waits_for=waits_for[:500],
        )
        if found or waits_for or began < deletion.requested_at + self._settle:
            await self._store.release(deletion, self._owner, due_at=self._now() + self._pause(deletion))
            return
        now = self._now()
        completed = replace(deletion, state=DeletionState.COMPLETED, completed_at=now)
        await self._store.release(completed, self._owner, due_at=now)
        self._record(_audit(completed, now))

    async def _erased(self, erase: Eraser, deletion: TenantDeletion) -> Mapping[str, int]:
        principal = Principal(
            deletion.tenant_id, deletion.requested_by, _OWNER, _ALL_SCOPES, request_id=deletion.request_id
        )
        with self._acting_as(principal):
            return await erase(deletion.tenant_id)

    def _pause(self, deletion: TenantDeletion) -> timedelta:
        if deletion.failures:
            return timedelta(seconds=min(2.0**deletion.failures, _LONGEST_PAUSE_SECONDS))
        return max(timedelta(), deletion.requested_at + self._settle - self._now())


def _added(
    erased: Mapping[str, Mapping[str, int]], service: str, more: Mapping[str, int]
) -> Mapping[str, Mapping[str, int]]:
    known = erased.get(service, {})
    counts = {kind: known.get(kind, 0) + more.get(kind, 0) for kind in known.keys() | more.keys()}
    return {**erased, service: dict(sorted(counts.items()))}


def _audit(deletion: TenantDeletion, now: datetime) -> AuditEvent:
    return AuditEvent(
        tenant_id=OPERATOR_TENANT,
        at=now,
        principal_id=deletion.requested_by,
        action="tenants:deleted",
        method="",
        path=f"/api/v1/admin/tenants/{deletion.tenant_id}",
        status=200,
        request_id=deletion.request_id,
    )
