"""python -m errand_gateway.testing: a gateway before fake services, for contract tests and benchmarks.

Prints one JSON object, {"url": ..., "key": ...}, when it listens; ends with SIGTERM.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import uvloop
from errand_common.main import wait_for_shutdown
from errand_common.telemetry import configure_logging
from errand_common.testing.keys import TestKeys

from errand_gateway.testing.backend import fake_backend
from errand_gateway.testing.gateway import ADMIN_KEY, migrated_template, running_gateway, test_settings


async def main() -> None:
    """Serves until it is asked to end."""
    # A reader that stops after the first line would let the pipe fill, and the next log line block.
    configure_logging("gateway", "error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = TestKeys(folder)
        template = await asyncio.to_thread(migrated_template, folder / "template")
        async with fake_backend(keys) as backend:
            settings = test_settings(folder / "data", backend, keys, rate_limit="1000000/second")
            async with running_gateway(settings, backend, template=template) as gateway:
                sys.stdout.write(json.dumps({"url": gateway.url, "key": ADMIN_KEY}) + "\n")
                sys.stdout.flush()
                await wait_for_shutdown()


if __name__ == "__main__":
    uvloop.run(main())
