"""Documents are read in processes that may be killed; the service lives."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ReadRequest
from errand_rag.parsers.process import ProcessReader, ReaderLimits

REQUEST = ReadRequest("doc_1", "a.txt", 200, 0, 100, 10**7, 20_000)


@pytest.fixture
async def reader() -> AsyncIterator[ProcessReader]:
    reader = ProcessReader(ReaderLimits(timeout_seconds=30, memory_bytes=300 * 1024 * 1024))
    yield reader
    await reader.close()


async def test_a_document_is_read_and_cut(reader: ProcessReader) -> None:
    read = await reader.read(b"One sentence. Another one.", REQUEST)
    assert (read.title, read.media_type) == ("a.txt", "text/plain")
    assert [c.text for c in read.chunks] == ["One sentence. Another one."]


async def test_a_process_serves_many_documents(reader: ProcessReader) -> None:
    answers = await asyncio.gather(*(reader.read(f"Text {n}.".encode(), REQUEST) for n in range(20)))
    assert [a.clean_text for a in answers] == [f"Text {n}." for n in range(20)]


async def test_a_refusal_leaves_the_process_working(reader: ProcessReader) -> None:
    with pytest.raises(DocumentRejected, match="empty"):
        await reader.read(b"", REQUEST)
    assert (await reader.read(b"fine", REQUEST)).clean_text == "fine"


async def test_a_document_that_takes_too_long_is_given_up_and_the_next_is_read() -> None:
    reader = ProcessReader(ReaderLimits(timeout_seconds=0.05, processes=1))
    with pytest.raises(DocumentRejected, match="longer than"):
        await reader.read(b"word " * 2_000_000, REQUEST)
    await reader.close()


async def test_a_killed_process_is_a_refusal_not_a_fault_of_the_service(reader: ProcessReader) -> None:
    await reader.read(b"fine", REQUEST)
    child = reader._idle[0]._process
    os.kill(child.pid, 9)
    await child.wait()
    with pytest.raises(DocumentRejected, match="crashed"):
        await reader.read(b"text", REQUEST)
    assert (await reader.read(b"fine", REQUEST)).clean_text == "fine"


async def test_memory_is_bounded(reader: ProcessReader) -> None:
    nested = b"[" + b'{"a":[1,2,3]},' * 800_000 + b"0]"
    with pytest.raises(DocumentRejected, match="memory"):
        await reader.read(nested, ReadRequest("doc_1", "a.json", 200, 0, 100, 10**7, 20_000))
    assert (await reader.read(b"fine", REQUEST)).clean_text == "fine"


async def test_the_process_knows_no_secret(reader: ProcessReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRAND_RAG_DATABASE_URL", "postgresql://secret")
    await reader.read(b"fine", REQUEST)
    pid = reader._idle[0]._process.pid
    environment = await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
    assert b"secret" not in environment
