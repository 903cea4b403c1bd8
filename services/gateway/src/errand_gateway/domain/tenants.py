"""Tenants."""

from dataclasses import dataclass
from datetime import datetime

from errand_gateway.domain.auth import TenantState


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer or team, whose rows nobody else sees."""

    id: str
    display_name: str
    state: TenantState
    created_at: datetime
    allowed_networks: tuple[str, ...] = ()
