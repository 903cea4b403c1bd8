"""Calls that a person must allow before they run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from errand_common.errors import InvalidArgument

from errand_agent.domain.ports import Call


class ApprovalState(StrEnum):
    """Where a call stands; the names of errand.agent.v1.ApprovalState."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits, or waited, for a person."""

    id: str
    run_id: str
    tool_name: str
    arguments_json: str
    state: ApprovalState
    created_at: datetime
    expires_at: datetime
    edited_arguments_json: str = ""
    reason: str = ""
    decided_by: str = ""
    decided_at: datetime | None = None

    @property
    def call(self) -> Call:
        """The call as it runs, once it may."""
        return Call(self.tool_name, self.edited_arguments_json or self.arguments_json)

    @property
    def refusal(self) -> str:
        """What the model is told when the call does not run; empty when it does."""
        match self.state:
            case ApprovalState.APPROVED:
                return ""
            case ApprovalState.EXPIRED:
                return "Nobody approved this call in time."
            case _:
                return "A person refused this call" + (f": {self.reason}" if self.reason else ".")


def check_arguments(arguments_json: str) -> None:
    """Raises InvalidArgument when edited arguments are not a JSON object."""
    try:
        arguments = json.loads(arguments_json)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidArgument(
            "edited_arguments_json: give a JSON object, or leave it empty to keep the model's arguments.",
            field="edited_arguments_json",
        )
