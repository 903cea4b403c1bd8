"""Runs what makes a model ready, in a process of its own and without network, and tells how far it is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

import structlog
from errand_common.errors import ModelUnavailable

_LONGEST_SECONDS = 1800.0
_TOLD_SECONDS = 10.0
_KEPT_BYTES = 16_384
_log = structlog.get_logger(__name__)


def run_conversion(command: Sequence[str], *, model: str) -> None:
    """Waits for its end, up to half an hour; raises ModelUnavailable with the last line that it said.

    On a terminal its own progress bars are shown, else a line is logged every ten seconds.
    """
    shown = sys.stderr.isatty()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if shown:
        # Behind a pipe no bars are drawn otherwise.
        environment["FORCE_COLOR"] = "1"
    with subprocess.Popen(  # noqa: S603 - our own command line
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        said = _Said(process.stderr, shown=shown)
        try:
            status = _waited(process, model)
        except BaseException:
            process.kill()
            raise
        last = said.last()
    if status:
        raise ModelUnavailable(f"The model cannot be converted: {last}", model=model)


def _waited(process: subprocess.Popen[bytes], model: str) -> int:
    began = time.monotonic()
    while (seconds := time.monotonic() - began) < _LONGEST_SECONDS:
        try:
            return process.wait(_TOLD_SECONDS)
        except subprocess.TimeoutExpired:
            _log.info("converting the model", model=model, seconds=round(seconds + _TOLD_SECONDS))
    raise ModelUnavailable("The model's conversion took too long.", model=model)


class _Said:
    """What a process says, read as it says it: one whose pipe is full would wait for ever."""

    def __init__(self, stream: IO[bytes] | None, *, shown: bool) -> None:
        self._stream, self._shown, self._kept = stream, shown, b""
        self._thread = threading.Thread(target=self._read, name="conversion", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._stream is not None and (piece := os.read(self._stream.fileno(), 4096)):
            self._kept = (self._kept + piece)[-_KEPT_BYTES:]
            if self._shown:
                sys.stderr.write(piece.decode("utf-8", "replace"))
                sys.stderr.flush()

    def last(self) -> str:
        """The last line, once the process has ended."""
        self._thread.join()
        lines = self._kept.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"
