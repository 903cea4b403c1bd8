"""Starts engine processes: the first one may be started ahead, to load its libraries while the service loads its own.

Nothing but the standard library is loaded here: this is imported before all else.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from errand_inference.engines.wire import Load, OpenVinoOptions

_PROGRAM = "errand_inference.engines.openvino_worker"


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A process that was started ahead, and what it was told to load, if anything."""

    process: subprocess.Popen[bytes]
    connection: Connection
    load: Load | None

    def take(self, load: Load) -> bool:
        """Whether it loads this model now; one that cannot is ended."""
        try:
            if self.load is None:
                self.connection.send(load)
            if self.load in (None, load) and self.process.poll() is None:
                return True
        except OSError:
            pass  # it ended
        self.connection.close()
        self.process.kill()
        self.process.wait()
        return False


_ahead: list[_Ahead] = []


def start_ahead(load: Load | None = None) -> None:
    """Starts a process that the next `launch` takes if it is for this `load`; when nobody does, it ends with ours."""
    process, connection = _started()
    if load is not None:
        connection.send(load)
    _ahead.append(_Ahead(process, connection, load))


def launch(folder: Path, options: OpenVinoOptions) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that begins to load the model."""
    load = Load(str(folder), options)
    while _ahead:
        ahead = _ahead.pop()
        if ahead.take(load):
            return ahead.process, ahead.connection
    process, connection = _started()
    connection.send(load)
    return process, connection


def _started() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", _PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return process, Connection(ours.detach())
