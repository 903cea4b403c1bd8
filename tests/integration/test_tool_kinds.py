"""The agent uses tools of every kind: its own process, the real tools service, and a model that says what is asked."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from errand.agent.v1 import agent_pb2, agent_pb2_grpc
from errand.tools.v1 import tools_pb2 as pb
from errand.tools.v1 import tools_pb2_grpc
from errand_agent.testing.backend import FakeBackend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import TestKeys
from errand_common.testing.rpc import serving
from errand_tools.app import migrate, running
from errand_tools.settings import ToolsSettings
from errand_tools.testing import shop
from errand_tools.testing.wasm import module

MCP_SERVER = str(Path(__file__).with_name("mcp_server.py"))
NUMBER = '{"type": "object", "properties": {"celsius": {"type": "number"}}, "required": ["celsius"]}'
COST_MICROS = 7
# What the model calls, with which arguments, and what the answer holds.
CALLS = {
    "built-in": ("calculator", {"expression": "6 * 7"}, '"result": 42'),
    "HTTP": ("weather", {"celsius": 20}, '"path": "/weather"'),
    "OpenAPI": ("item", {"id": "a1"}, '"path": "/items/a1"'),
    "MCP": ("sums.add", {"a": 40, "b": 2}, '"sum": 42'),
    "gRPC": ("place", {"id": 5, "items": [{"sku": "a", "count": 2}]}, '"id": "5"'),
    "WebAssembly": ("same", {"celsius": 1.5}, '"celsius": 1.5'),
    "Python": ("fahrenheit", {"celsius": 100}, '"result": 212'),
    "agent": ("ask_helper", {"message": 'use calculator {"expression": "6 * 7"}'}, '"answer": "The result is 42."'),
}


@asynccontextmanager
async def endpoint() -> AsyncIterator[int]:
    """An HTTP server that answers with the path that was asked for; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = json.dumps({"path": head.split(" ")[1]}).encode()
        start = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n"
        writer.write(f"{start}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def register(stub: Any, http_port: int, grpc_port: int) -> None:
    """A tool of each kind that is not built in."""
    http = pb.HttpBinding(method="POST", url_template=f"http://127.0.0.1:{http_port}/weather")
    method = pb.GrpcBinding(target=f"127.0.0.1:{grpc_port}", method="shop.v1.Orders/Place", plaintext=True)
    python = pb.PythonBinding(code="celsius * 9 / 5 + 32")
    made = (
        pb.Tool(name="weather", http=http, parameters_json=NUMBER, side_effect=pb.SIDE_EFFECT_ASK),
        pb.Tool(name="place", grpc=method, side_effect=pb.SIDE_EFFECT_ASK),
        pb.Tool(name="same", wasm=pb.WasmBinding(module=module()), parameters_json=NUMBER),
        pb.Tool(name="fahrenheit", python=python, parameters_json=NUMBER, cost_micros=COST_MICROS),
    )
    for tool in made:
        tool.description = "Does it well."
        tool.side_effect = tool.side_effect or pb.SIDE_EFFECT_NONE
        await stub.RegisterTool(pb.RegisterToolRequest(tool=tool))
    item = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {"/items/{id}": {"get": {"operationId": "item", "parameters": [item]}}}
    document = {"openapi": "3.1.0", "servers": [{"url": f"http://127.0.0.1:{http_port}"}], "paths": paths}
    await stub.ImportOpenApi(pb.ImportOpenApiRequest(document=json.dumps(document)))
    server = pb.McpServer(name="sums", stdio="sums", side_effect=pb.SIDE_EFFECT_NONE, policy=pb.TOOL_POLICY_AUTO)
    await stub.RegisterMcpServer(pb.RegisterMcpServerRequest(server=server))


@pytest.fixture
async def agent(tmp_path: Path, keys: TestKeys) -> AsyncIterator[agent_pb2_grpc.AgentServiceStub]:
    """An agent's process before the real tools service, in which every kind is registered."""
    async with AsyncExitStack() as stack:
        http_port = await stack.enter_async_context(endpoint())
        orders = await stack.enter_async_context(shop.serving(shop.Shop()))
        settings = ToolsSettings(
            data_dir=tmp_path / "tools",
            http_private_networks=("127.0.0.0/8",),
            http_ports=(http_port, orders.port),
            mcp_stdio_servers={"sums": (sys.executable, MCP_SERVER)},
            mcp_stdio_sandbox="none",
        )
        await asyncio.to_thread(migrate, settings)
        tools = await stack.enter_async_context(running(settings))
        backend = FakeBackend()
        others = [one for one in backend.registrations() if one.servicer is not backend.tools]
        target = await stack.enter_async_context(serving([*others, tools.registration], keys))
        channel = await stack.enter_async_context(create_channel(target))
        with as_somebody(keys, "kinds", "admin-1", "admin"):
            await register(tools_pb2_grpc.ToolsServiceStub(channel), http_port, orders.port)
        process = AgentProcess(tmp_path, keys, target)
        await process.start()
        stack.callback(process.end)
        asked = await stack.enter_async_context(create_channel(process.target))
        yield agent_pb2_grpc.AgentServiceStub(asked)


async def test_an_agent_uses_every_kind_of_tool(agent: agent_pb2_grpc.AgentServiceStub, keys: TestKeys) -> None:
    with as_somebody(keys, "kinds", "admin-1", "admin"):
        helper = agent_pb2.Agent(name="helper", tools=["calculator"])
        await agent.CreateAgent(agent_pb2.CreateAgentRequest(agent=helper))
        names = [name for kind, (name, _, _) in CALLS.items() if kind != "agent"]
        lead = agent_pb2.Agent(name="lead", tools=names, agents=["helper"])
        await agent.CreateAgent(agent_pb2.CreateAgentRequest(agent=lead))
        for kind, (name, arguments, told) in CALLS.items():
            message = f"use {name} {json.dumps(arguments)}"
            run = (await agent.RunAgent(agent_pb2.RunAgentRequest(agent="lead", message=message))).run
            observed = [step for step in run.steps if step.kind == agent_pb2.STEP_KIND_OBSERVE]
            assert [step.tool_name for step in observed] == [name], kind
            assert told in observed[0].result_json, kind
            assert run.stop_reason == agent_pb2.STOP_REASON_ANSWER, kind
            assert run.cost_micros == (COST_MICROS if kind == "Python" else 0), kind
