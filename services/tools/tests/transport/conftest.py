"""The service over real gRPC on a real SQLite file, and an HTTP endpoint that tells what it got."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from errand.tools.v1 import tools_pb2, tools_pb2_grpc
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair
from errand_tools.app import migrate, running
from errand_tools.settings import ToolsSettings


class Endpoint:
    """Answers every request with its method, target, headers and body."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, target, _ = first.split(" ")
                seen = {"method": method, "target": target, "headers": headers, "body": json.loads(body or b"null")}
                self.requests.append(seen)
                data = json.dumps(seen).encode()
                start = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
                writer.write(start.encode() + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class ToolsClient:
    """The service's stub, called as some principal."""

    def __init__(self, channel: grpc.aio.Channel, keys: TestKeys) -> None:
        self.stub = tools_pb2_grpc.ToolsServiceStub(channel)
        self.keys = keys
        self.calls = 0

    async def call(self, method: str, request: Any, tenant: str = "t1", roles: tuple[str, ...] = ("admin",)) -> Any:
        with acting_as(principal(tenant, roles=roles), signer=self.keys.signer), translate_errors("tools"):
            return await getattr(self.stub, method)(request, timeout=20)

    async def execute(self, name: str, /, **arguments: Any) -> tuple[int, Any]:
        """Status and result of a new call."""
        self.calls += 1
        request = tools_pb2.ExecuteToolRequest(
            name=name, arguments_json=json.dumps(arguments), run_id="run_1", step=self.calls
        )
        response = await self.call("ExecuteTool", request)
        return response.status, json.loads(response.result_json)

    async def stream(self, name: str) -> AsyncIterator[tools_pb2.ExecuteToolStreamResponse]:
        """What a new call tells, then its result."""
        self.calls += 1
        call = tools_pb2.ExecuteToolRequest(name=name, run_id="run_1", step=self.calls)
        with acting_as(principal("t1", roles=("admin",)), signer=self.keys.signer), translate_errors("tools"):
            stream = self.stub.ExecuteToolStream(tools_pb2.ExecuteToolStreamRequest(request=call), timeout=20)
        async for response in stream:
            yield response


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    yield endpoint
    server.close()


@asynccontextmanager
async def tools_service(keys: TestKeys, settings: ToolsSettings) -> AsyncIterator[ToolsClient]:
    """The service with these settings."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(migrate, settings)
        app = await stack.enter_async_context(running(settings))
        channel = await stack.enter_async_context(rpc_pair([app.registration], keys))
        yield ToolsClient(channel, keys)


@pytest.fixture
async def near(tmp_path: Path, keys: TestKeys, endpoint: Endpoint) -> AsyncIterator[ToolsClient]:
    """A service that may reach the endpoint."""
    settings = ToolsSettings(
        data_dir=tmp_path, http_private_networks=("127.0.0.0/8",), http_ports=(endpoint.port,), rag_target="127.0.0.1:1"
    )
    async with tools_service(keys, settings) as client:
        yield client
