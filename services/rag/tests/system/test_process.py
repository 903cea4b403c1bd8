"""The service as a process: it starts, is killed, starts again, and has lost nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.rpc.client import create_channel
from errand_common.settings import describe
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_common.testing.rpc import serving
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.inference import FakeInference
from pydantic import SecretStr, ValidationError

TEXT = "\n\n".join(f"# Part {n}\n\nThe marker{n} stands here alone." for n in range(200))


class Process:
    """The service in a process of its own."""

    def __init__(self, folder: Path, keys: TestKeys, inference: str, **settings: str) -> None:
        self.port = free_port()
        self.environment = {
            **os.environ,
            "ERRAND_RAG_PORT": str(self.port),
            "ERRAND_RAG_DATA_DIR": str(folder),
            "ERRAND_RAG_JWKS": str(keys.jwks_file),
            "ERRAND_RAG_SIGNING_KEY_FILE": str(keys.signing_key_file),
            "ERRAND_RAG_INFERENCE_TARGET": inference,
            **settings,
        }
        self.keys = keys

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[RagClient, asyncio.subprocess.Process]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "errand_rag", "serve", env=self.environment, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with create_channel(f"127.0.0.1:{self.port}") as channel:
                await asyncio.wait_for(channel.channel_ready(), 30)
                yield RagClient(channel, principal(), self.keys.signer), process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "errand_rag", *arguments,
        env={k: v for k, v in os.environ.items() if not k.startswith("ERRAND_")} | environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_a_kill_during_ingestion_loses_and_doubles_nothing(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, keys: TestKeys
) -> None:
    settings = {"ERRAND_RAG_WORKER_NAME": "rag-0"}
    if database == "postgres":
        settings["ERRAND_RAG_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        code, _, err = await run("migrate", **settings, ERRAND_RAG_JWKS="x", ERRAND_RAG_SIGNING_KEY_FILE="x")
        assert code == 0, err
    inference = FakeInference()  # type: ignore[abstract]  # only Embed is called
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(serving([inference.registration], keys))
        service = Process(tmp_path, keys, target, **settings)
        async with service.running() as (client, process):
            await client.collection("big")
            first = (await client.upload("big", "a.md", TEXT)).document
            async with asyncio.timeout(20):
                while len(inference.texts) < 64:  # noqa: ASYNC110 - the fake has no event
                    await asyncio.sleep(0.01)
            inference.gate.clear()
            second = (await client.upload("big", "b.txt", "The lateral marker waits.")).document
            process.kill()
            await process.wait()
        inference.gate.set()
        async with service.running() as (client, process):
            for document in (first, second):
                assert (await client.settled(document.id)).state == rag_pb2.DOCUMENT_STATE_READY
            assert (await client.document(first.id)).chunk_count == 200
            for word in ("marker0", "marker199"):
                answer = await client.search(word, "big", mode=rag_pb2.SEARCH_MODE_KEYWORD)
                assert len(answer.hits) == 1
                assert answer.hits[0].similarity > 0.2
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
    assert {caller.tenant_id for caller in inference.callers} == {"default"}


async def test_settings_that_cannot_work_are_told_in_one_line_each() -> None:
    code, _, err = await run("check-config", ERRAND_RAG_PORT="99999")
    assert code == 2
    assert "ERRAND_RAG_PORT: " in err


def test_keys_must_be_given_and_secrets_are_not_shown() -> None:
    with pytest.raises(ValidationError, match="ERRAND_RAG_JWKS is not set"):
        RagSettings()
    with pytest.raises(ValidationError, match="ERRAND_RAG_SIGNING_KEY_FILE is not set"):
        RagSettings(jwks="keys.json")
    url = SecretStr("postgresql+asyncpg://u:hush@h/d")
    shown = describe(RagSettings(jwks="keys.json", signing_key_file=Path("key.pem"), database_url=url))
    assert "hush" not in shown
