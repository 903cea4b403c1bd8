"""Quotas: how many tokens and how much money a tenant, a key or a user may spend in a day or a month."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from errand_common.errors import NotFound, PermissionDenied
from errand_common.principal import Principal

from errand_gateway.domain.permissions import OPERATOR_TENANT, Permission, permissions_of
from errand_gateway.domain.resources import Page, PageQuery

SLICE_FRACTION: Final = 64
"""A lease is this fraction of what is left, or what is needed when that is more."""


class QuotaSubject(StrEnum):
    """Whose spending is counted together."""

    TENANT = "tenant"
    KEY = "key"
    USER = "user"


class QuotaPeriod(StrEnum):
    """How long spending is counted before it starts anew; days and months are UTC's."""

    DAY = "day"
    MONTH = "month"


class QuotaMeasure(StrEnum):
    """What is counted: tokens in and out, or millionths of a US dollar."""

    TOKENS = "tokens"
    COST_MICROS = "cost_micros"


@dataclass(frozen=True, slots=True)
class Spend:
    """What work costs, or may cost at most."""

    tokens: int = 0
    cost_micros: int = 0

    def of(self, measure: QuotaMeasure) -> int:
        """The amount in this measure."""
        return self.tokens if measure is QuotaMeasure.TOKENS else self.cost_micros


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on spending; `subject_id` is a tenant's, key's or user's id."""

    id: str
    tenant_id: str
    subject: QuotaSubject
    subject_id: str
    period: QuotaPeriod
    measure: QuotaMeasure
    amount: int
    version: int
    created_at: datetime

    def concerns(self, principal: Principal) -> bool:
        """Whether this principal's spending counts here."""
        if principal.tenant_id != self.tenant_id:
            return False
        return self.subject is QuotaSubject.TENANT or self.subject_id == principal.id


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A quota with what is spent in the current period and what running work holds."""

    quota: Quota
    period_start: str
    spent: int
    held: int

    @property
    def remaining(self) -> int:
        """What may still be spent."""
        return max(0, self.quota.amount - self.spent - self.held)


def period_start(period: QuotaPeriod, now: datetime) -> str:
    """The period's name: 2026-11-21 for a day, 2026-11 for a month."""
    return now.astimezone(UTC).strftime("%Y-%m-%d" if period is QuotaPeriod.DAY else "%Y-%m")


def seconds_left(period: QuotaPeriod, now: datetime) -> float:
    """Seconds until the period ends."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is QuotaPeriod.DAY:
        end = today + timedelta(days=1)
    else:
        end = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return (end - now).total_seconds()


def check_may_set_quota(caller: Principal, tenant_id: str, subject: QuotaSubject) -> None:
    """Raises NotFound for another's tenant, PermissionDenied for a tenant's own quota unless operator.

    An administrator may limit the keys and users of the tenant, but not lift what limits the tenant.
    """
    operator = caller.tenant_id == OPERATOR_TENANT and Permission.TENANTS_MANAGE in permissions_of(
        caller.roles, caller.scopes
    )
    if operator:
        return
    if tenant_id != caller.tenant_id:
        raise NotFound("tenant", tenant_id)
    if subject is QuotaSubject.TENANT:
        raise PermissionDenied(
            "a tenant's own quota is set by the operator of this installation",
            permission=Permission.TENANTS_MANAGE.value,
        )


class QuotaAdmin(Protocol):
    """Where quotas are kept."""

    async def add(self, quota: Quota) -> None:
        """Stores a quota; raises AlreadyExists, or NotFound without its subject."""
        ...

    async def get(self, tenant_id: str, quota_id: str, now: datetime) -> QuotaState:
        """One quota; raises NotFound."""
        ...

    async def list(self, tenant_id: str, page: PageQuery, now: datetime) -> Page[QuotaState]:
        """The tenant's quotas, newest first."""
        ...

    async def set_amount(self, tenant_id: str, quota_id: str, amount: int, *, expected_version: int) -> None:
        """Changes the limit; raises NotFound, or Conflict when another version is in place."""
        ...

    async def delete(self, tenant_id: str, quota_id: str) -> None:
        """Removes a quota and its counts; raises NotFound."""
        ...


class QuotaLedger(Protocol):
    """Where spending is counted, for all gateways together."""

    async def of_tenant(self, tenant_id: str) -> Sequence[Quota]:
        """All quotas of a tenant."""
        ...

    async def lease(
        self, quota: Quota, start: str, need: int, *, holder: str, now: datetime, expires_at: datetime
    ) -> int:
        """Sets aside at least `need` for a gateway and says how much; 0 when that much is not left."""
        ...

    async def report(
        self, quota: Quota, start: str, *, spent: int, returned: int, holder: str, expires_at: datetime
    ) -> None:
        """Books what a gateway spent of its lease, takes back what it returns, and renews the rest."""
        ...
