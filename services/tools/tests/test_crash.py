"""kill -9 of the real service between dispatch and result: each effect happens once.

The service runs as its own process on a SQLite file; the tools it calls are a server here that counts,
and that holds its answers back until the service is dead. One crash hits a call of every class at once.
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
# Each tool has its own mailbox. Those that crash "after" have sent their mail when the service dies.
TOOLS = {
    "free": (tools_pb2.SIDE_EFFECT_NONE, "before"),
    "keyed": (tools_pb2.SIDE_EFFECT_IDEMPOTENT, "after"),
    "asked_sent": (tools_pb2.SIDE_EFFECT_RECONCILE, "after"),
    "asked_unsent": (tools_pb2.SIDE_EFFECT_RECONCILE, "before"),
    "person": (tools_pb2.SIDE_EFFECT_ASK, "after"),
    "done": (tools_pb2.SIDE_EFFECT_ASK, ""),
}


class Mailer:
    """POST /NAME sends a mail once for each key; GET /NAME tells whether any was sent."""

    def __init__(self) -> None:
        self.posts: dict[str, list[str]] = {name: [] for name in TOOLS}
        self.queries: dict[str, int] = dict.fromkeys(TOOLS, 0)
        self.mails: dict[str, set[str]] = {name: set() for name in TOOLS}
        self.crashing = True
        self.all_called = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                await reader.readexactly(int(headers.get("content-length", 0)))
                method, path = head.split(" ")[:2]
                name = path.split("?")[0].strip("/")
                if method == "get":
                    self.queries[name] += 1
                    self._write(writer, 200 if self.mails[name] else 404, {"mails": len(self.mails[name])})
                else:
                    await self._send(name, headers.get("idempotency-key", ""), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _send(self, name: str, key: str, writer: asyncio.StreamWriter) -> None:
        self.posts[name].append(key)
        if all(self.posts.values()):
            self.all_called.set()
        crashes = TOOLS[name][1] if self.crashing else ""
        if crashes == "before":
            await asyncio.sleep(3600)
        self.mails[name].add(key or f"mail {len(self.posts[name])}")
        if crashes == "after":
            await asyncio.sleep(3600)
        self._write(writer, 200, {"mails": len(self.mails[name])})

    @staticmethod
    def _write(writer: asyncio.StreamWriter, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)


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
                stub = tools_pb2_grpc.ToolsServiceStub(channel)
                with acting_as(principal("t1"), signer=self.keys.signer):
                    await stub.ListTools(tools_pb2.ListToolsRequest(), timeout=30, wait_for_ready=True)
                    yield stub
        finally:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)

    async def register(self, stub: Any, name: str, side_effect: int) -> None:
        fields: dict[str, Any] = {"side_effect": side_effect}
        if side_effect == tools_pb2.SIDE_EFFECT_RECONCILE:
            await self._register(stub, f"was_{name}", "GET", name, side_effect=tools_pb2.SIDE_EFFECT_NONE)
            fields["reconcile_tool"] = f"was_{name}"
        await self._register(stub, name, "POST", name, **fields)

    async def _register(self, stub: Any, name: str, method: str, path: str, **fields: Any) -> None:
        http = tools_pb2.HttpBinding(method=method, url_template=f"http://127.0.0.1:{self.mailer.port}/{path}")
        tool = tools_pb2.Tool(name=name, description="Mail.", parameters_json=SCHEMA, http=http, **fields)
        await stub.RegisterTool(tools_pb2.RegisterToolRequest(tool=tool), timeout=10)

    @staticmethod
    async def send(stub: Any, name: str) -> tools_pb2.ExecuteToolResponse:
        request = tools_pb2.ExecuteToolRequest(
            name=name,
            arguments_json='{"to": "ann"}',
            run_id="run_1",
            step=2,
            call_index=list(TOOLS).index(name),
        )
        response: tools_pb2.ExecuteToolResponse = await stub.ExecuteTool(request, timeout=20)
        return response


@pytest.fixture
def service(tmp_path: Path, keys: TestKeys, mailer: Mailer) -> Service:
    return Service(tmp_path, keys, mailer)


async def crash(service: Service) -> None:
    """Calls every tool, and kills the process while all calls but one are out."""
    async with service.run() as stub:
        for name, (side_effect, _) in TOOLS.items():
            await service.register(stub, name, side_effect)
        assert (await service.send(stub, "done")).status == SUCCEEDED
        calls = [asyncio.ensure_future(service.send(stub, name)) for name in TOOLS if name != "done"]
        await asyncio.wait_for(service.mailer.all_called.wait(), 20)
        service.kill()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, grpc.aio.AioRpcError) for error in ended)
    service.mailer.crashing = False


async def test_each_effect_happens_once(service: Service, mailer: Mailer) -> None:
    await crash(service)
    async with service.run() as stub:
        after = {name: await service.send(stub, name) for name in TOOLS}
        person = await settled_by_a_person(stub, after["person"])
        again = {name: await service.send(stub, name) for name in TOOLS}

    # No side effect: simply runs again, every time.
    assert (after["free"].status, after["free"].replayed) == (SUCCEEDED, False)
    assert len(mailer.posts["free"]) == 3
    # Idempotent: sent again with the same key, so that the endpoint did it once.
    assert mailer.posts["keyed"] == [after["keyed"].effect_id] * 2
    # Reconcile, and it had happened: the query's answer is the result.
    assert json.loads(after["asked_sent"].result_json) == {"status": 200, "body": {"mails": 1}}
    assert (len(mailer.posts["asked_sent"]), mailer.queries["asked_sent"]) == (1, 1)
    # Reconcile, and it had not: sent.
    assert (len(mailer.posts["asked_unsent"]), mailer.queries["asked_unsent"]) == (2, 1)
    # A person said what came of it.
    assert after["person"].status == tools_pb2.EXECUTION_STATUS_UNSETTLED
    assert json.loads(again["person"].result_json) == person
    # Completed before the crash: the stored result.
    assert after["done"].replayed
    for name in ("keyed", "asked_sent", "asked_unsent", "person", "done"):
        assert (again[name].status, again[name].replayed) == (SUCCEEDED, True)
        assert len(mailer.mails[name]) == 1


async def settled_by_a_person(stub: Any, unsettled: tools_pb2.ExecuteToolResponse) -> Any:
    """Finds the effect in the ledger, and settles it."""
    request = tools_pb2.ListEffectsRequest(state=tools_pb2.EFFECT_STATE_UNSETTLED)
    [effect] = (await stub.ListEffects(request, timeout=10)).effects
    assert (effect.id, effect.run_id, effect.tool_name) == (unsettled.effect_id, "run_1", "person")
    settle = tools_pb2.SettleEffectRequest(effect_id=effect.id, result_json='{"sent": true}')
    settled = (await stub.SettleEffect(settle, timeout=10)).effect
    assert settled.state == tools_pb2.EFFECT_STATE_COMPLETED
    return {"sent": True}
