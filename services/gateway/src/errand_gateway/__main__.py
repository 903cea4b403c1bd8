"""python -m errand_gateway serve | migrate | check-config | audit-verify."""

import asyncio
import sys

import uvloop
from errand_common.main import run_service

from errand_gateway import audit
from errand_gateway.app import migrate_database
from errand_gateway.server import serve
from errand_gateway.settings import GatewaySettings


def main() -> int:
    """Runs the command line."""
    if sys.argv[1:] == [audit.COMMAND]:
        return audit.main()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return run_service("errand_gateway", GatewaySettings, serve, migrate_database)


if __name__ == "__main__":
    sys.exit(main())
