"""What must be free before work that costs something begins: a place, tokens of this minute, quota."""

import asyncio
from collections.abc import Callable

from errand_common.errors import RateLimited
from errand_common.principal import Principal

from errand_gateway.domain.limits import ConcurrencyLimiter, LimitDecision, Slot, TokenLimiter
from errand_gateway.domain.quota_keeper import QuotaKeeper, Reservation
from errand_gateway.domain.quotas import Spend


class Permit:
    """What running work holds; settled exactly once, however often that is asked."""

    def __init__(
        self, slot: Slot, reservation: Reservation, spend: Callable[[int], None], tokens: LimitDecision | None
    ) -> None:
        self._slot = slot
        self._reservation = reservation
        self._spend = spend
        self._open = True
        self.tokens = tokens

    def settle(self, actual: Spend) -> None:
        """Books what was spent and frees the rest; `Spend()` frees all."""
        if not self._open:
            return
        self._open = False
        self._slot.release()
        self._reservation.settle(actual)
        if actual.tokens:
            self._spend(actual.tokens)


class Admission:
    """Lets work begin that its caller may run and pay for."""

    def __init__(self, keeper: QuotaKeeper, tokens: TokenLimiter, concurrency: ConcurrencyLimiter) -> None:
        self._keeper = keeper
        self._tokens = tokens
        self._concurrency = concurrency
        self._counting: set[asyncio.Task[None]] = set()

    async def admit(self, principal: Principal, bound: Spend) -> Permit:
        """Holds a place and `bound` of every quota; raises RateLimited or QuotaExceeded, holding nothing.

        A minute's tokens are counted when they are used, so work that has begun may pass the limit; what
        comes then waits until the minute is over.
        """
        tokens = await self._tokens.look(principal)
        if tokens is not None and tokens.remaining <= 0:
            raise RateLimited(
                f"the {tokens.scope}'s {tokens.limit} tokens of this window are used; wait",
                retry_after_seconds=tokens.reset_seconds,
                limit=str(tokens.limit),
            )
        slot = await self._concurrency.enter(principal)
        try:
            reservation = await self._keeper.reserve(principal, bound)
        except BaseException:
            slot.release()
            raise
        return Permit(slot, reservation, lambda used: self._count(principal, used), tokens)

    def _count(self, principal: Principal, used: int) -> None:
        task = asyncio.get_running_loop().create_task(self._tokens.spend(principal, used))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)
