"""The program of docs/grpc.md, with nothing of ours but errand-protos."""

import asyncio
import os
import re
import sys
from pathlib import Path

from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway

# Were a package of ours imported, the documented program would not run for those who do not have it.
GUARD = """
import sys
assert not any(name.startswith("errand_") for name in sys.modules), "errand_* was imported"
"""


async def test_the_documented_program_runs_an_agent_and_searches(gateway: RunningGateway, project_root: Path) -> None:
    made = await gateway.http.post("/api/v1/collections", json={"name": "manuals"})
    content = b"The warranty lasts two years."
    path = f"/api/v1/collections/{made.json()['id']}/documents"
    await gateway.http.post(path, files={"file": ("warranty.txt", content)})
    page = (project_root / "docs" / "grpc.md").read_text()
    program = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    environment = {
        "PATH": os.environ["PATH"],
        "ERRAND_URL": gateway.url,
        "ERRAND_KEY": ADMIN_KEY,
        "ERRAND_AGENT": gateway.backend.target,
        "ERRAND_RAG": gateway.backend.target,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program + GUARD, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, error = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, error.decode()
    lines = output.decode().splitlines()
    assert lines[0] == "You said: What is 17% of 2,350?"
    assert lines[1] == "1 started"
    assert any("warranty.txt" in line for line in lines)


async def test_a_key_without_the_right_gets_no_token(gateway: RunningGateway) -> None:
    made = await gateway.http.post("/api/v1/admin/keys", json={"name": "x", "roles": ["viewer"], "scopes": ["chat"]})
    async with gateway.client(made.json()["key"]) as http:
        assert (await http.post("/api/v1/token")).status_code == 403
