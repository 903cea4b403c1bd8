"""Spending against quotas in one gateway: reserved before the work, settled after it.

The database counts for all gateways. Each leases slices of what is left and spends them without asking
again, so that the sum of all slices and of all spending never passes the limit. A slice that is not used
goes back after some seconds, and that of a gateway that died when its lease expires.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from errand_common.errors import QuotaExceeded
from errand_common.principal import Principal

from errand_gateway.domain.quotas import Quota, QuotaLedger, Spend, period_start, seconds_left
from errand_gateway.domain.recent import Recent

LEASE_SECONDS: Final = 60.0
_RENEW_SECONDS: Final = 20.0
_IDLE_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Slice:
    """What this gateway may spend of one quota in one period.

    `free` is leased and not asked for, `held` is reserved by running work, `spent` is not yet reported.
    """

    quota: Quota
    start: str
    free: int = 0
    held: int = 0
    spent: int = 0
    used_at: float = 0.0
    reported_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Reservation:
    """What running work holds; settled exactly once, however often that is asked."""

    def __init__(self, parts: Sequence[tuple[_Slice, int]], clock: Callable[[], float]) -> None:
        self._parts = parts
        self._clock = clock
        self._open = True

    def settle(self, actual: Spend) -> None:
        """Books what was spent and frees the rest; `Spend()` frees all."""
        if not self._open:
            return
        self._open = False
        for part, held in self._parts:
            amount = actual.of(part.quota.measure)
            part.held -= held
            part.spent += amount
            part.free += held - amount
            part.used_at = self._clock()


class QuotaKeeper:
    """Reserves on behalf of principals; `holder` names this gateway among all."""

    def __init__(
        self,
        ledger: QuotaLedger,
        *,
        holder: str,
        now: Callable[[], datetime],
        on_failure: Callable[[Exception], None],
        cache_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._now = now
        self._on_failure = on_failure
        self._clock = clock
        self._quotas = Recent[str, Sequence[Quota]](ledger.of_tenant, ttl_seconds=cache_seconds, clock=clock)
        self._slices: dict[tuple[str, str], _Slice] = {}

    async def reserve(self, principal: Principal, bound: Spend) -> Reservation:
        """Holds `bound` against every quota of the principal; raises QuotaExceeded, holding nothing."""
        parts: list[tuple[_Slice, int]] = []
        reservation = Reservation(parts, self._clock)
        try:
            for quota in await self._of(principal):
                part = self._slice(quota)
                amount = bound.of(quota.measure)
                await self._take(part, amount)
                parts.append((part, amount))
        except BaseException:
            reservation.settle(Spend())
            raise
        return reservation

    def forget(self) -> None:
        """Quotas were changed: they are read anew."""
        self._quotas.forget()

    async def _of(self, principal: Principal) -> list[Quota]:
        quotas = await self._quotas.find(principal.tenant_id) or ()
        return [quota for quota in quotas if quota.concerns(principal)]

    def _slice(self, quota: Quota) -> _Slice:
        start = period_start(quota.period, self._now())
        part = self._slices.get((quota.id, start))
        if part is None:
            part = self._slices[quota.id, start] = _Slice(quota, start, reported_at=self._clock())
        part.used_at = self._clock()
        return part

    async def _take(self, part: _Slice, amount: int) -> None:
        if part.free < amount:
            # Who finds enough here waits neither for the database nor for a report to it.
            async with part.lock:
                while part.free < amount:
                    granted = await self._lease(part, amount - part.free)
                    # Added to what is free by now: work may have ended or begun meanwhile.
                    part.free += granted
        part.free -= amount
        part.held += amount

    async def _lease(self, part: _Slice, need: int) -> int:
        now = self._now()
        expires_at = now + timedelta(seconds=LEASE_SECONDS)
        granted = await self._ledger.lease(
            part.quota, part.start, need, holder=self._holder, now=now, expires_at=expires_at
        )
        if granted < need:
            quota = part.quota
            raise QuotaExceeded(
                f"the {quota.subject.value}'s quota of {quota.amount} {quota.measure.value} a {quota.period.value} "
                "does not hold what this request may cost; ask for less, wait, or ask an administrator for more",
                retry_after_seconds=seconds_left(quota.period, now),
                quota=quota.id,
            )
        return granted

    async def run(self) -> None:
        """Reports what was spent, again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(1.0)
            await self.report()

    async def report(self) -> None:
        """Books what was spent, renews leases in use and returns idle ones."""
        for key, part in list(self._slices.items()):
            async with part.lock:
                await self._report(part)
                if not (part.held or part.free or part.spent) and self._is_idle(part):
                    self._slices.pop(key, None)

    async def close(self, *, seconds: float) -> None:
        """Books everything and returns what is free, within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for part in self._slices.values():
                    part.used_at = -_IDLE_SECONDS
                    await self._report(part)

    def _is_idle(self, part: _Slice) -> bool:
        return self._clock() - part.used_at >= _IDLE_SECONDS

    async def _report(self, part: _Slice) -> None:
        returned = max(0, part.free) if self._is_idle(part) else 0
        due = (part.held or part.free) and self._clock() - part.reported_at >= _RENEW_SECONDS
        if not (part.spent or returned or due):
            return
        # Taken before the write: work that ends while it goes on belongs to the next report.
        spent, part.spent = part.spent, 0
        part.free -= returned
        expires_at = self._now() + timedelta(seconds=LEASE_SECONDS)
        try:
            await self._ledger.report(
                part.quota, part.start, spent=spent, returned=returned, holder=self._holder, expires_at=expires_at
            )
        except Exception as error:
            part.spent += spent
            part.free += returned
            self._on_failure(error)
            return
        part.reported_at = self._clock()
        if part.held == 0 and part.free < 0:
            # Work that cost more than it had reserved: the database has booked it by now.
            part.free = 0
