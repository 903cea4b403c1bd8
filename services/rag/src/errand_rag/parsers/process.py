"""The document reader port: reader processes, bounded in number, time and memory."""

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from errand_common.errors import Unavailable

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Chunk, ReadDocument, ReadRequest
from errand_rag.parsers.worker import LENGTH

_TOO_LARGE_ANSWER_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Bounds on reading one document."""

    timeout_seconds: float = 60.0
    memory_bytes: int = 1024 * 1024 * 1024
    processes: int = 2
    # A fresh process now and then bounds what a leaking library keeps.
    documents_per_process: int = 200


class ProcessReader:
    """Reads in child processes, which know no secret and are killed when they overrun."""

    def __init__(self, limits: ReaderLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.processes)
        self._idle: list[_Child] = []

    async def read(self, content: bytes, request: ReadRequest) -> ReadDocument:
        """Raises DocumentRejected with a reason for a person."""
        async with self._slots:
            child = self._idle.pop() if self._idle else await _Child.start(self._limits)
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):
                    answer = await child.ask(content, request)
            except TimeoutError:
                await child.kill()
                raise DocumentRejected(
                    f"the document took longer than {self._limits.timeout_seconds:g} s to read"
                ) from None
            except (asyncio.IncompleteReadError, OSError):
                await child.kill()
                raise DocumentRejected("reading the document crashed or needed more memory than is allowed") from None
            except BaseException:
                await child.kill()
                raise
            await self._keep(child)
        if "rejected" in answer:
            raise DocumentRejected(answer["rejected"])
        return _document(answer)

    async def _keep(self, child: "_Child") -> None:
        if child.answered >= self._limits.documents_per_process:
            await child.kill()
        else:
            self._idle.append(child)

    async def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            await self._idle.pop().kill()


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.answered = 0

    @classmethod
    async def start(cls, limits: ReaderLimits) -> "_Child":
        # Only what Python needs to start: the service's environment holds its secrets.
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "PYTHONPATH", "LANG", "HOME"}}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "errand_rag.parsers.worker",
                str(limits.memory_bytes),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=kept,
            )
        except OSError as error:
            raise Unavailable("document reader") from error
        return cls(process)

    async def ask(self, content: bytes, request: ReadRequest) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise OSError("the reader process has no pipes")
        header = json.dumps(asdict(request)).encode()
        for frame in (header, content):
            stdin.write(LENGTH.pack(len(frame)))
            stdin.write(frame)
        await stdin.drain()
        size = LENGTH.unpack(await stdout.readexactly(LENGTH.size))[0]
        if size > _TOO_LARGE_ANSWER_BYTES:
            raise OSError("the reader process answers too much")
        answer: dict[str, Any] = json.loads(await stdout.readexactly(size))
        self.answered += 1
        return answer

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        # asyncio closes the pipes' transport only when it is collected, which warns.
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()


def _document(answer: dict[str, Any]) -> ReadDocument:
    text = answer["clean_text"]
    return ReadDocument(
        title=answer["title"],
        media_type=answer["media_type"],
        clean_text=text,
        chunks=tuple(
            Chunk(id_, index, text[start:end], start, end, heading, page)
            for index, (id_, start, end, heading, page) in enumerate(answer["chunks"])
        ),
    )
