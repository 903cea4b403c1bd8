"""python -m errand_gateway audit-verify: recomputes every tenant's audit chain."""

import asyncio
import sys
from typing import Final

from errand_common.db import Database
from errand_common.errors import ErrandError
from errand_common.settings import SettingsError, load_settings

from errand_gateway.domain.resources import PageQuery
from errand_gateway.settings import GatewaySettings
from errand_gateway.storage.models import SCHEMA
from errand_gateway.storage.records import SqlRecordRepository
from errand_gateway.storage.tenants import SqlTenantRepository

COMMAND: Final = "audit-verify"


def main() -> int:
    """One line a tenant; 0 when all chains are intact, 1 when one is broken, 2 when it cannot be told."""
    try:
        settings = load_settings(GatewaySettings)
        return asyncio.run(_verify(settings))
    except (SettingsError, ErrandError) as error:
        sys.stderr.write(f"errand_gateway: {error}\n")
        return 2


async def _verify(settings: GatewaySettings) -> int:
    database = Database(settings.database("gateway"), schema=SCHEMA)
    tenants, records = SqlTenantRepository(database), SqlRecordRepository(database)
    broken = False
    page = PageQuery(size=200)
    try:
        while True:
            listed = await tenants.list(page)
            for tenant in listed.items:
                check = await records.verify_audit(tenant.id)
                broken |= not check.intact
                state = "intact" if check.intact else f"BROKEN at entry {check.broken_at}"
                sys.stdout.write(f"{tenant.id}: {check.entries} entries, {state}\n")
            if not listed.next_page_token:
                return int(broken)
            page = PageQuery(size=200, token=listed.next_page_token)
    finally:
        await database.close()
