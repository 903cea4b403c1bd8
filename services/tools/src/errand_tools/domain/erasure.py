"""All that a tenant has here, deleted."""

from collections.abc import Awaitable, Callable, Mapping

from errand_common.principal import Principal, may_erase_tenant

from errand_tools.domain.usage import UsageBook

EraseRows = Callable[[str], Awaitable[Mapping[str, int]]]
"""Deletes a tenant's rows; how many, by table."""


class TenantErasure:
    """Tools, servers, secrets, effects and counts of a tenant."""

    def __init__(self, erase_rows: EraseRows, usage: UsageBook) -> None:
        self._erase_rows = erase_rows
        self._usage = usage

    async def erase(self, principal: Principal, tenant_id: str) -> Mapping[str, int]:
        """Rows that were deleted, by table. Raises PermissionDenied, InvalidArgument for another's id."""
        may_erase_tenant(principal, tenant_id)
        # Else what was counted and not yet written would come after.
        await self._usage.write()
        return await self._erase_rows(tenant_id)
