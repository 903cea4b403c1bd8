"""The effect ledger: each effect of a run is sent once, and a lost outcome is settled.

An effect is stored as DISPATCHED before its call is sent and COMPLETED with its outcome after. A
replay of a completed one gets the stored outcome. A dispatched one that nobody is running any more
is *in doubt*; its tool's side-effect class says how that ends.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from errand_tools.domain.tools import JsonObject, Outcome, SideEffect, canonical_json


class EffectState(StrEnum):
    """State of an effect."""

    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class CallPosition:
    """Where in a run a call stands."""

    run_id: str
    step: int
    call_index: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A call that is about to be sent."""

    effect_id: str
    position: CallPosition
    tool_name: str
    arguments_hash: str
    side_effect: SideEffect
    owner: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """An entry of the ledger.

    `attempt` counts the sendings and fences them: whoever takes an effect over must name the
    attempt it saw.
    """

    id: str
    position: CallPosition
    tool_name: str
    arguments_hash: str
    side_effect: SideEffect
    state: EffectState
    owner: str
    attempt: int
    lease_until: datetime
    created_at: datetime
    completed_at: datetime | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class EffectFilter:
    """Which effects are listed."""

    run_id: str = ""
    state: EffectState | None = None


def cursor_of(effect: Effect) -> str:
    """Where a listing continues after this effect."""
    return f"{effect.created_at.isoformat()}|{effect.id}"


def parse_cursor(cursor: str) -> tuple[datetime, str]:
    """The time and id that a cursor names. Raises ValueError when it names none."""
    created, separator, id_ = cursor.partition("|")
    if not separator or not id_:
        raise ValueError(cursor)
    return datetime.fromisoformat(created), id_


def effect_id(tenant_id: str, position: CallPosition) -> str:
    """The effect's name: equal for each replay of a call, different in each tenant."""
    text = canonical_json([tenant_id, position.run_id, position.step, position.call_index])
    return f"eff_{hashlib.sha256(text.encode()).hexdigest()[:48]}"


def arguments_hash(arguments: JsonObject) -> str:
    """SHA-256 over the canonical arguments, hex."""
    return hashlib.sha256(canonical_json(arguments).encode()).hexdigest()
