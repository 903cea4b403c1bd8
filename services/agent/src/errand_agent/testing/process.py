"""The agent service as a process, as it runs in a pod."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import grpc
import httpx
from errand.agent.v1 import agent_pb2 as pb
from errand_common.rpc.client import acting_as
from errand_common.testing.keys import TestKeys, free_port, principal
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

# Many processes that start at once share the machine.
_START_SECONDS = 110


class AgentProcess:
    """Starts, kills and starts again on the same data and port."""

    def __init__(self, folder: Path, keys: TestKeys, backend_target: str, **settings: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.target = f"127.0.0.1:{self.port}"
        own = {
            "port": str(self.port),
            "metrics_port": str(self.metrics_port),
            "data_dir": str(folder),
            "jwks": str(keys.jwks_file),
            "signing_key_file": str(keys.signing_key_file),
            "inference_target": backend_target,
            "tools_target": backend_target,
            "rag_target": backend_target,
            "drain_seconds": "2",
            **settings,
        }
        self._environment = {**os.environ, **{f"ERRAND_AGENT_{key.upper()}": value for key, value in own.items()}}
        self._log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it serves; raises RuntimeError with its log when it does not."""
        with self._log.open("ab") as log:
            self._process = self._spawn(log)
        until = time.monotonic() + _START_SECONDS
        while not await self._is_serving():
            if self._process.poll() is not None or time.monotonic() > until:
                self.end(signal.SIGKILL)
                raise RuntimeError(f"the agent did not start: {self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.1)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "errand_agent", "serve"]
        return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)  # noqa: S603 - this package

    async def _is_serving(self) -> bool:
        try:
            async with grpc.aio.insecure_channel(self.target) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
        return serving

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self._process.wait(30)

    def figure(self, name: str, **labels: str) -> float:
        """A series' value now, as a scraper sees it; 0 when there is none yet."""
        page = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return next((sample.value for sample in samples if sample.name == name and sample.labels == labels), 0.0)

    def log(self) -> str:
        """All that it said."""
        return self._log.read_text()


@contextmanager
def as_somebody(keys: TestKeys, tenant_id: str, person: str, *roles: str) -> Iterator[None]:
    """Calls inside the block are this person's."""
    with acting_as(principal(tenant_id, person, roles=roles or ("user",)), signer=keys.signer):
        yield


async def until_observed(stub: Any, run_id: str) -> None:
    """Returns when a tool's result is remembered: a run is killed after that, and asks for it no second time."""
    async for item in stub.WatchRun(pb.WatchRunRequest(id=run_id), timeout=30):
        # What is told of is remembered.
        if item.event.step.kind == pb.STEP_KIND_OBSERVE:
            return
    raise RuntimeError("the run ended before its tool answered")
