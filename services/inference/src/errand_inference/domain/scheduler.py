"""Who enters the batch next. No I/O: plain data in, a plan out; the caller owns the clock.

Order: priority class first (aged, so that nobody starves), then the tenant that was served least
(start-time fair queueing: Goyal, Vin, Cheng 1996), then first come, first served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from errand_common.errors import Overloaded


class Priority(IntEnum):
    """Smaller is sooner."""

    INTERACTIVE = 0
    NORMAL = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that waits. `deadline` is in the clock's seconds; `cost` is its expected tokens."""

    id: str
    tenant_id: str
    priority: Priority
    deadline: float
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: start these; these expired in the queue and must never start."""

    start: tuple[Ticket, ...] = ()
    expired: tuple[Ticket, ...] = ()


@dataclass(slots=True)
class _Waiting:
    ticket: Ticket
    since: float


@dataclass(slots=True)
class Scheduler:
    """A bounded queue in front of `slots` running requests.

    A ticket rises by one class for every `aging_seconds` it waits.
    """

    slots: int
    capacity: int
    aging_seconds: float = 5.0
    _queues: dict[tuple[Priority, str], deque[_Waiting]] = field(default_factory=dict)
    _running: dict[str, Ticket] = field(default_factory=dict)
    _served: dict[str, float] = field(default_factory=dict)
    _virtual_time: float = 0.0
    _finished_at: deque[float] = field(default_factory=lambda: deque(maxlen=64))

    @property
    def queued(self) -> int:
        """Tickets that wait."""
        # A copy: figures are read by another thread.
        return sum(len(queue) for queue in list(self._queues.values()))

    @property
    def running(self) -> int:
        """Tickets that were started and have not finished."""
        return len(self._running)

    def submit(self, ticket: Ticket, now: float) -> None:
        """Puts a ticket in the queue; raises Overloaded when the queue is full."""
        if self.queued >= self.capacity:
            wait = self.retry_after_seconds(now)
            raise Overloaded("The model's queue is full; try again later.", retry_after_seconds=wait)
        if ticket.tenant_id not in self._served or not self._is_active(ticket.tenant_id):
            # Time away earns no credit: a returning tenant starts level with the others.
            self._served[ticket.tenant_id] = max(self._served.get(ticket.tenant_id, 0.0), self._virtual_time)
        queue = self._queues.setdefault((ticket.priority, ticket.tenant_id), deque())
        queue.append(_Waiting(ticket, now))

    def plan(self, now: float) -> Plan:
        """Fills the free slots; a ticket whose deadline passed is never started."""
        expired = tuple(self._drop_expired(now))
        started: list[Ticket] = []
        while len(self._running) < self.slots and (key := self._next_queue(now)) is not None:
            ticket = self._queues[key].popleft().ticket
            self._drop_if_empty(key)
            self._virtual_time = max(self._virtual_time, self._served[ticket.tenant_id])
            self._served[ticket.tenant_id] += ticket.cost
            self._running[ticket.id] = ticket
            started.append(ticket)
        return Plan(tuple(started), expired)

    def finish(self, ticket_id: str, now: float) -> None:
        """Frees a running ticket's slot."""
        if self._running.pop(ticket_id, None) is not None:
            self._finished_at.append(now)
        self._forget_idle_tenants()

    def cancel(self, ticket_id: str) -> bool:
        """Takes a waiting ticket out; false when it does not wait."""
        for key, queue in self._queues.items():
            for waiting in queue:
                if waiting.ticket.id == ticket_id:
                    queue.remove(waiting)
                    self._drop_if_empty(key)
                    return True
        return False

    def retry_after_seconds(self, now: float) -> float:
        """When a slot is likely to be free for one more, from the measured rate of finishing."""
        if len(self._finished_at) < 2:
            return 1.0
        window = max(now - self._finished_at[0], 1e-3)
        rate = len(self._finished_at) / window
        return min(60.0, max(0.1, (self.queued + 1) / rate))

    def _next_queue(self, now: float) -> tuple[Priority, str] | None:
        keys = self._queues.keys()
        return min(keys, key=lambda key: self._order(key, now), default=None)

    def _order(self, key: tuple[Priority, str], now: float) -> tuple[float, float, float]:
        priority, tenant_id = key
        since = self._queues[key][0].since
        aged = max(0, int(priority) - int((now - since) / self.aging_seconds))
        return aged, self._served[tenant_id], since

    def _drop_expired(self, now: float) -> Iterator[Ticket]:
        for key in list(self._queues):
            queue = self._queues[key]
            late = [waiting for waiting in queue if waiting.ticket.deadline <= now]
            for waiting in late:
                queue.remove(waiting)
                yield waiting.ticket
            self._drop_if_empty(key)

    def _drop_if_empty(self, key: tuple[Priority, str]) -> None:
        if not self._queues[key]:
            del self._queues[key]

    def _is_active(self, tenant_id: str) -> bool:
        waits = any(tenant == tenant_id for _, tenant in self._queues)
        return waits or any(ticket.tenant_id == tenant_id for ticket in self._running.values())

    def _forget_idle_tenants(self) -> None:
        """Keeps the table as small as the number of tenants at work."""
        if not self._queues and not self._running:
            self._virtual_time = max(self._served.values(), default=self._virtual_time)
            self._served.clear()
            return
        behind = [tenant for tenant, served in self._served.items() if served <= self._virtual_time]
        for tenant_id in behind:
            if not self._is_active(tenant_id):
                del self._served[tenant_id]
