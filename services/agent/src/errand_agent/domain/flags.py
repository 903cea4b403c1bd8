"""Switches for what operators may want to turn on tenant by tenant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Flag(StrEnum):
    """What can be switched; on unless the operator's file says otherwise."""

    RECALL_FACTS = "recall-facts"
    CALL_AGENTS = "call-agents"
    PROMPTS = "prompts"


@dataclass(frozen=True, slots=True)
class Rule:
    """For whom a flag is on: as said for a tenant by name, else for a share of the others, in percent."""

    percent: int = 100
    tenants: Mapping[str, bool] = field(default_factory=dict)

    def is_on(self, flag: str, tenant_id: str) -> bool:
        """The same each time; who has it at 10 percent has it at 20."""
        if tenant_id in self.tenants:
            return self.tenants[tenant_id]
        digest = hashlib.sha256(f"{flag}:{tenant_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % 100 < self.percent


def rules_of(stored: object) -> dict[Flag, Rule]:
    """From the operator's file: {"FLAG": {"percent": 25, "tenants": {"acme": true}}}. Raises ValueError."""
    if not isinstance(stored, dict):
        raise ValueError(  # noqa: TRY004 - the file's value is wrong, not the code
            'it is no JSON object; write {"recall-facts": {"percent": 25}}'
        )
    rules = {}
    for name, rule in stored.items():
        if name not in set(Flag):
            raise ValueError(f"{name!r} is no flag; there are {', '.join(Flag)}")
        rules[Flag(name)] = _rule(name, rule)
    return rules


def _rule(name: str, stored: object) -> Rule:
    if not isinstance(stored, dict) or set(stored) - {"percent", "tenants"}:
        raise ValueError(f"{name}: give percent and tenants")
    percent, tenants = stored.get("percent", 100), stored.get("tenants", {})
    if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
        raise ValueError(f"{name}.percent: give 0 to 100")
    if not isinstance(tenants, dict) or not all(isinstance(value, bool) for value in tenants.values()):
        raise ValueError(f"{name}.tenants: give true or false for each tenant's id")
    return Rule(percent, tenants)
