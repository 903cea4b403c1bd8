"""Starts engine processes: the first one may be started ahead, to load its libraries while the service loads its own.

Nothing but the standard library is loaded here: this is imported before all else.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from errand_inference.engines.wire import Load, OpenVinoOptions

_PROGRAM = "errand_inference.engines.openvino_worker"
_ahead: list[tuple[subprocess.Popen[bytes], Connection]] = []


def start_ahead() -> None:
    """Starts a process that the next `launch` takes. It ends with this one when nobody does."""
    _ahead.append(_started())


def launch(folder: Path, options: OpenVinoOptions) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that begins to load the model."""
    load = Load(str(folder), options)
    while _ahead:
        process, connection = _ahead.pop()
        try:
            connection.send(load)
        except OSError:
            connection.close()
            process.wait()
        else:
            return process, connection
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
