"""Starts the suite's processes, starts again what died, and ends all of them together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass

from errand_cli.layout import Layout
from errand_cli.services import Ports, ServiceSpec

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A process that ran so long has proved itself: its next death is restarted at once.
_STABLE_SECONDS = 60.0
_STOP_SECONDS = 15.0
_TICK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 32 * 1024 * 1024


def _die_with_parent() -> None:
    """In the child: the kernel sends SIGTERM when the supervisor is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """A supervised process."""

    spec: ServiceSpec
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started_at: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    retry_at: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process and self.process.poll() is None else 0

    @property
    def state(self) -> str:
        return "running" if self.pid else "restarting" if self.restarts or self.process else "starting"


class Supervisor:
    """Owns the processes of one data directory."""

    def __init__(self, layout: Layout, ports: Ports, specs: list[ServiceSpec]) -> None:
        self._layout, self._ports = layout, ports
        self._children = [Child(spec) for spec in specs]
        self._ending = False
        self._written: dict[str, object] = {}

    def request_stop(self, *_: object) -> None:
        """Asks `run` to end; usable as a signal handler."""
        self._ending = True

    @property
    def is_ending(self) -> bool:
        """Whether the suite was asked to end."""
        return self._ending

    def start(self) -> None:
        """Starts all processes at once."""
        for child in self._children:
            self._start(child)
        self._write_state()

    def tick(self) -> None:
        """Notices deaths and starts again what may be started."""
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._note_death(child)
            if child.process is None and time.monotonic() >= child.retry_at:
                self._start(child)
                child.restarts += 1
        self._write_state()

    def run(self) -> None:
        """Supervises until asked to end, then ends everything."""
        try:
            while not self._ending:
                self.tick()
                time.sleep(_TICK_SECONDS)
        finally:
            self.stop()

    def _start(self, child: Child) -> None:
        path = self._layout.logs / f"{child.spec.name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            os.replace(path, path.with_suffix(".log.1"))
        child.started_at = time.monotonic()
        with path.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603 - our own command line
                child.spec.command,
                env={**os.environ, **child.spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )

    def _note_death(self, child: Child) -> None:
        if time.monotonic() - child.started_at >= _STABLE_SECONDS:
            child.pause = _FIRST_PAUSE_SECONDS
        child.process = None
        child.retry_at = time.monotonic() + child.pause
        child.pause = min(child.pause * 2, _LONGEST_PAUSE_SECONDS)

    def services(self) -> list[dict[str, object]]:
        """Name, pid, state and restarts of each process."""
        return [
            {"name": child.spec.name, "pid": child.pid, "state": child.state, "restarts": child.restarts}
            for child in self._children
        ]

    def _write_state(self) -> None:
        state: dict[str, object] = {
            "pid": os.getpid(),
            "url": f"http://127.0.0.1:{self._ports.gateway}",
            "mlflow_url": f"http://127.0.0.1:{self._ports.mlflow}",
            "ports": self._ports.grpc,
            "services": self.services(),
        }
        if state != self._written:
            self._layout.write_state(state)
            self._written = state

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to what is left after the grace; what hears the others ends after them."""
        for is_last in (False, True):
            self._stop([child for child in self._children if child.spec.ends_last is is_last])
        self._layout.state_file.unlink(missing_ok=True)

    def _stop(self, children: list[Child]) -> None:
        for child in children:
            self._signal(child, signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while any(child.pid for child in children) and time.monotonic() < until:
            time.sleep(0.05)
        for child in children:
            self._signal(child, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()

    def _signal(self, child: Child, number: signal.Signals) -> None:
        """To the whole group: MLflow's server has workers of its own."""
        if child.process is None or (number == signal.SIGTERM and not child.pid):
            return
        try:
            os.killpg(child.process.pid, number)
        except ProcessLookupError:
            return
