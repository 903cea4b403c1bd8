"""OpenAI's agents package against the gateway: both of its APIs, whole and streamed, with a tool."""

import asyncio
import json
from pathlib import Path

import pytest
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway

PROGRAM = Path(__file__).parent / "sdk" / "openai_agents.py"
ENVIRONMENT = ".cache/openai-agents"


async def test_agents_and_models_answer(gateway: RunningGateway, project_root: Path) -> None:
    python = project_root / ENVIRONMENT / "bin" / "python"
    if not await asyncio.to_thread(python.exists):
        pytest.fail(f"openai-agents is missing: run `make {ENVIRONMENT}/.set-up`.")
    process = await asyncio.create_subprocess_exec(
        python, PROGRAM, gateway.url, ADMIN_KEY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, error = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, error.decode()[-3000:]
    runs = [json.loads(line) for line in output.splitlines()]
    assert len(runs) == 4
    for run in runs:
        wanted = "You said: hello" if run["model"] == "agent:default" else 'Echo: "Sunny in Paris."'
        assert (run["whole"], run["streamed"]) == (wanted, wanted), run
        assert run["events"] > 3
