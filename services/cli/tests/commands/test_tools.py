"""`errand tools` against a gateway that really listens."""

import asyncio
import json
import subprocess
from collections.abc import Callable

from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway

Errand = Callable[..., subprocess.CompletedProcess[str]]


async def test_the_report_is_told_and_given_as_json(gateway: RunningGateway, errand: Errand) -> None:
    access = ("--url", gateway.url, "--key", ADMIN_KEY)
    told = await asyncio.to_thread(errand, "tools", "report", "--days", "10", *access)
    assert told.returncode == 0, told.stderr
    for words in ("calculator", "90.0%", "1 (expression)", "2.5"):
        assert words in told.stdout, told.stdout
    found = await asyncio.to_thread(errand, "tools", "report", "other", *access, "--json")
    assert [row["name"] for row in json.loads(found.stdout)["items"]] == ["other"]
    refused = await asyncio.to_thread(errand, "tools", "report", "a b", *access)
    assert refused.returncode == 1
    assert refused.stderr.startswith("errand: INVALID_ARGUMENT: tool")
