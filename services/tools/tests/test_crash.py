"""kill -9 of the real service between dispatch and result: each effect happens once.

The service runs as its own process on a SQLite file; the tools it calls are a server here that counts,
and that can hold its answer back until the service is dead.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from errand.tools.v1 import tools_pb2, tools_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal

SUCCEEDED = tools_pb2.EXECUTION_STATUS_SUCCEEDED
SCHEMA = json.dumps({"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]})


class Mailer:
    """An endpoint with memory: /send sends a mail once for each key, /sent tells whether it did."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.mails: list[str] = []
        self.keys: set[str] = set()
        self.arrived = asyncio.Event()
        self.hold_before = False
        self.hold_after = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or "{}")
                path = head.split(" ")[1].split("?")[0]
                await self._answer(path, headers, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, headers: dict[str, str], body: Any, writer: asyncio.StreamWriter) -> None:
        key = headers.get("idempotency-key", "")
        self.requests.append((path, key))
        if path == "/sent":
            self._write(writer, 200 if self.mails else 404, {"count": len(self.mails)})
            return
        if self.hold_before:
            self.arrived.set()
            await asyncio.sleep(3600)
        if not key or key not in self.keys:
            self.mails.append(body.get("to", ""))
            self.keys.add(key)
        if self.hold_after:
            self.arrived.set()
            await asyncio.sleep(3600)
        self._write(writer, 200, {"sent": len(self.mails)})

    @staticmethod
    def _write(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.requests)


@pytest.fixture
async def mailer() -> AsyncIterator[Mailer]:
    mailer = Mailer()
    server = await asyncio.start_server(mailer.serve, "127.0.0.1", 0)
    mailer.port = server.sockets[0].getsockname()[1]
    yield mailer
    server.close()


class Service:
    """The tools service as a process of its own."""

    def __init__(self, folder: Path, keys: TestKeys, mailer: Mailer) -> None:
        self.keys = keys
        self.mailer = mailer
        self.port = free_port()
        self.environment = os.environ | {
            "ERRAND_TOOLS_PORT": str(self.port),
            "ERRAND_TOOLS_DATA_DIR": str(folder),
            "ERRAND_TOOLS_JWKS": str(keys.jwks_file),
            "ERRAND_TOOLS_HTTP_PORTS": str(mailer.port),
            "ERRAND_TOOLS_HTTP_PRIVATE_NETWORKS": "127.0.0.0/8",
        }
        self.process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Any]:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "errand_tools", "serve",
            env=self.environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with create_channel(f"127.0.0.1:{self.port}") as channel:
                with acting_as(principal("t1"), signer=self.keys.signer):
                    yield tools_pb2_grpc.ToolsServiceStub(channel)
        finally:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    async def register(self, stub: Any, side_effect: int) -> None:
        query = {"http": self._http("GET", "/sent"), "side_effect": tools_pb2.SIDE_EFFECT_NONE}
        await self._register(stub, "was_sent", query)
        send = {"http": self._http("POST", "/send"), "side_effect": side_effect}
        if side_effect == tools_pb2.SIDE_EFFECT_RECONCILE:
            send["reconcile_tool"] = "was_sent"
        await self._register(stub, "send_mail", send)

    def _http(self, method: str, path: str) -> tools_pb2.HttpBinding:
        return tools_pb2.HttpBinding(method=method, url_template=f"http://127.0.0.1:{self.mailer.port}{path}")

    @staticmethod
    async def _register(stub: Any, name: str, fields: dict[str, Any]) -> None:
        tool = tools_pb2.Tool(name=name, description="Mail.", parameters_json=SCHEMA, **fields)
        request = tools_pb2.RegisterToolRequest(tool=tool)
        await stub.RegisterTool(request, timeout=30, wait_for_ready=True)

    @staticmethod
    async def send(stub: Any) -> tools_pb2.ExecuteToolResponse:
        request = tools_pb2.ExecuteToolRequest(
            name="send_mail", arguments_json='{"to": "ann"}', run_id="run_1", step=2, call_index=0
        )
        return await stub.ExecuteTool(request, timeout=30, wait_for_ready=True)

    async def crash_during(self, side_effect: int) -> None:
        """Starts the service, calls the tool, and kills the process while the call is out."""
        async with self.run() as stub:
            await self.register(stub, side_effect)
            call = asyncio.ensure_future(self.send(stub))
            await asyncio.wait_for(self.mailer.arrived.wait(), 30)
            self.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        self.mailer.hold_before = self.mailer.hold_after = False


@pytest.fixture
def service(tmp_path: Path, keys: TestKeys, mailer: Mailer) -> Service:
    return Service(tmp_path, keys, mailer)


async def test_without_side_effect_it_runs_again(service: Service, mailer: Mailer) -> None:
    mailer.hold_before = True
    await service.crash_during(tools_pb2.SIDE_EFFECT_NONE)
    async with service.run() as stub:
        response = await service.send(stub)
    assert (response.status, response.replayed) == (SUCCEEDED, False)
    assert mailer.count("/send") == 2


async def test_idempotent_is_sent_again_with_its_key(service: Service, mailer: Mailer) -> None:
    mailer.hold_after = True
    await service.crash_during(tools_pb2.SIDE_EFFECT_IDEMPOTENT)
    async with service.run() as stub:
        response = await service.send(stub)
        again = await service.send(stub)
    assert response.status == SUCCEEDED
    assert [key for path, key in mailer.requests if path == "/send"] == [response.effect_id] * 2
    assert mailer.mails == ["ann"]
    assert (again.result_json, again.replayed) == (response.result_json, True)


async def test_reconcile_finds_what_was_sent(service: Service, mailer: Mailer) -> None:
    mailer.hold_after = True
    await service.crash_during(tools_pb2.SIDE_EFFECT_RECONCILE)
    async with service.run() as stub:
        response = await service.send(stub)
    assert response.status == SUCCEEDED
    assert json.loads(response.result_json) == {"status": 200, "body": {"count": 1}}
    assert (mailer.mails, mailer.count("/send"), mailer.count("/sent")) == (["ann"], 1, 1)


async def test_reconcile_sends_what_was_not(service: Service, mailer: Mailer) -> None:
    mailer.hold_before = True
    await service.crash_during(tools_pb2.SIDE_EFFECT_RECONCILE)
    async with service.run() as stub:
        response = await service.send(stub)
    assert response.status == SUCCEEDED
    assert (mailer.mails, mailer.count("/send"), mailer.count("/sent")) == (["ann"], 2, 1)


async def test_ask_waits_for_a_person(service: Service, mailer: Mailer) -> None:
    mailer.hold_after = True
    await service.crash_during(tools_pb2.SIDE_EFFECT_ASK)
    async with service.run() as stub:
        response = await service.send(stub)
        assert response.status == tools_pb2.EXECUTION_STATUS_UNSETTLED
        unsettled = tools_pb2.ListEffectsRequest(state=tools_pb2.EFFECT_STATE_UNSETTLED)
        [effect] = (await stub.ListEffects(unsettled, timeout=10)).effects
        assert (effect.id, effect.run_id, effect.step) == (response.effect_id, "run_1", 2)
        settle = tools_pb2.SettleEffectRequest(effect_id=effect.id, result_json='{"sent": true}')
        settled = (await stub.SettleEffect(settle, timeout=10)).effect
        assert settled.state == tools_pb2.EFFECT_STATE_COMPLETED
        after = await service.send(stub)
    assert (after.status, after.replayed) == (SUCCEEDED, True)
    assert json.loads(after.result_json) == {"sent": True}
    assert (mailer.mails, mailer.count("/send")) == (["ann"], 1)


async def test_a_stored_result_survives_the_process(service: Service, mailer: Mailer) -> None:
    async with service.run() as stub:
        await service.register(stub, tools_pb2.SIDE_EFFECT_ASK)
        first = await service.send(stub)
        service.kill()
    async with service.run() as stub:
        second = await service.send(stub)
    assert (second.result_json, second.replayed) == (first.result_json, True)
    assert mailer.mails == ["ann"]
