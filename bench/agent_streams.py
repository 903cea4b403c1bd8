"""`make bench-streams`: streaming runs on one agent process, one after another and 200 at once.

The model and the tools answer at once, so that what is measured is the agent service: how long until a run's
first event, and whether all runs end. Beside it the whole suite over REST, with the bundled model. Writes
docs/benchmarks/agent-streams.{json,md}. Usage: agent_streams.py [AT_ONCE]
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import structlog
from agent import postgres
from chat import MESSAGE, suite
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.app import SCHEMA
from errand_agent.testing.backend import fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.db import migrate
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks"
ALONE = 30
LIMIT_MS = 50


@dataclass(frozen=True, slots=True)
class Watched:
    """One streaming run: milliseconds to its first event and to its end, and whether it was answered."""

    first_ms: float
    ended_ms: float
    answered: bool


async def watched(stub: agent_pb2_grpc.AgentServiceStub) -> Watched:
    """A run with one tool call."""
    began = time.perf_counter()
    first = 0.0
    request = pb.RunAgentStreamRequest(request=pb.RunAgentRequest(message="calculate it"))
    answer = ""
    try:
        async for response in stub.RunAgentStream(request, timeout=300):
            first = first or 1000 * (time.perf_counter() - began)
            answer = response.event.ended.answer
    except grpc.aio.AioRpcError as error:
        print(error.code(), error.details())
    return Watched(first, 1000 * (time.perf_counter() - began), answer == "The result is 42.")


async def measured(folder: Path, at_once: int, **settings: str) -> dict[str, list[Watched]]:
    """Runs one after another, then so many at once."""
    keys = TestKeys(folder)
    async with fake_backend(keys) as backend:
        process = AgentProcess(folder, keys, backend.target, **settings)
        await process.start()
        try:
            with as_somebody(keys, "default", "user-1"):
                async with create_channel(process.target) as channel:
                    stub = agent_pb2_grpc.AgentServiceStub(channel)
                    await watched(stub)
                    alone = [await watched(stub) for _ in range(ALONE)]
                    together = await asyncio.gather(*(watched(stub) for _ in range(at_once)))
        finally:
            process.end()
    return {"alone": alone, "together": list(together)}


def over_rest() -> list[Watched]:
    """Chats of the whole suite one after another, read as server-sent events."""
    found = []
    with suite() as (client, _):
        for number in range(5 + ALONE):
            began, first, said = time.perf_counter(), 0.0, ""
            headers = {"accept": "text/event-stream"}
            with client.stream("POST", "/api/v1/chat", json=MESSAGE, headers=headers) as response:
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        first = first or 1000 * (time.perf_counter() - began)
                        said = line
            if number >= 5:
                found.append(Watched(first, 1000 * (time.perf_counter() - began), "answer" in said))
    return found


def row(database: str, name: str, found: list[Watched]) -> str:
    """One line of the table."""
    firsts, ends = sorted(item.first_ms for item in found), [item.ended_ms for item in found]
    answered = sum(item.answered for item in found)
    p95 = firsts[int(0.95 * len(firsts))]
    return (
        f"| {database} | {name} | {answered} of {len(found)} | {statistics.median(firsts):.0f} | {p95:.0f} "
        f"| {statistics.median(ends):.0f} | {max(ends):.0f} |"
    )


def main(at_once: int) -> None:
    """Measures and writes the report."""
    # The fakes are served here: a line for each of their calls would be measured too.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    found: dict[str, dict[str, list[Watched]]] = {}
    with tempfile.TemporaryDirectory(prefix="errand-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "sqlite").mkdir()
        found["sqlite"] = asyncio.run(measured(folder / "sqlite", at_once))
        url = stack.enter_context(postgres(folder)).replace("postgresql://", "postgresql+asyncpg://", 1)
        migrate(url, package="errand_agent.storage.migrations", schema=SCHEMA)
        (folder / "own").mkdir()
        settings = {"database_url": url, "dbos_database_url": url.replace("+asyncpg", "")}
        found["postgres"] = asyncio.run(measured(folder / "own", at_once, **settings))
    found["sqlite, whole suite over REST"] = {"alone": over_rest()}
    write(found, at_once)


def write(found: dict[str, dict[str, list[Watched]]], at_once: int) -> None:
    """The table, and all figures beside it."""
    load = os.getloadavg()[0]
    rows = [
        row(database, "one after another" if name == "alone" else f"{at_once} at once", items)
        for database, by_name in found.items()
        for name, items in by_name.items()
    ]
    text = (
        "# Streaming runs on one agent process\n\n"
        "A run has two model turns and one tool call, all answered at once by fakes over gRPC; "
        f"{os.cpu_count()} cores, load {load:.1f} at the end, shared with the fakes and the reader. "
        "Times are from the request over gRPC; over REST they are those of a chat with the bundled model through the "
        "whole suite, with authentication, limits, audit and traces. "
        f"Wanted: the first event in under {LIMIT_MS} ms for a run alone, and 200 at once that all end.\n\n"
        "| database | runs | answered | first event ms (p50) | (p95) | end ms (p50) | (max) |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "agent-streams.md").write_text(text + "\n".join(rows) + "\n\nMade by `make bench-streams`.\n")
    figures = {
        database: {name: [asdict(item) for item in items] for name, items in by_name.items()}
        for database, by_name in found.items()
    }
    (REPORT / "agent-streams.json").write_text(
        json.dumps({"load": load, "at_once": at_once, "found": figures}, indent=1) + "\n"
    )
    print((REPORT / "agent-streams.md").read_text())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
