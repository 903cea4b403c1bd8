"""Runs that go on when their request has been answered: known to all gateways until what they used is booked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from errand_common.principal import Principal

from errand_gateway.domain.pricing import Price


class FollowedKind(StrEnum):
    """Of what a run is."""

    AGENT = "agent"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """A run, and what its usage is booked on; it is given up `until` then."""

    id: str
    kind: FollowedKind
    principal: Principal
    project: str
    price: Price
    until: datetime


class FollowedStore(Protocol):
    """Where they are kept, for all gateways. One that nobody holds any more is taken by whoever asks first."""

    async def add(self, run: FollowedRun, owner: str, *, held_until: datetime) -> None:
        """Notes a run that this gateway holds."""
        ...

    async def hold(self, run_ids: Collection[str], owner: str, *, until: datetime) -> None:
        """This gateway lives and holds these of its runs for longer."""
        ...

    async def claim(self, owner: str, *, now: datetime, lease: timedelta, limit: int) -> Sequence[FollowedRun]:
        """Runs that nobody holds, for this gateway from now on."""
        ...

    async def release(self, run_id: str, owner: str, *, due_at: datetime) -> None:
        """Lets go of a run: whoever asks from then on gets it."""
        ...

    async def drop(self, run_id: str, owner: str) -> bool:
        """Forgets a run; false when another gateway holds it, and books it."""
        ...
