"""gRPC methods, WebAssembly modules and Python code as tools, over the whole service."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from errand.tools.v1 import tools_pb2 as pb
from errand_common.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from errand_common.testing.keys import TestKeys
from errand_tools.settings import ToolsSettings
from errand_tools.testing.shop import Shop, serving
from errand_tools.testing.wasm import SAME, module

from .conftest import ToolsClient, tools_service

NUMBER = (
    '{"type":"object","properties":{"celsius":{"type":"number"},"digits":{"type":"integer"}},"required":["celsius"]}'
)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with serving(Shop()) as running:
        yield running


@pytest.fixture
async def service(tmp_path: Path, keys: TestKeys, shop: Shop) -> AsyncIterator[ToolsClient]:
    settings = ToolsSettings(data_dir=tmp_path, http_private_networks=("127.0.0.0/8",), http_ports=(shop.port,))
    async with tools_service(keys, settings) as client:
        yield client


async def register(service: ToolsClient, **changes: Any) -> pb.Tool:
    tool = pb.Tool(name="mine", description="Does it well.", side_effect=pb.SIDE_EFFECT_NONE, parameters_json=NUMBER)
    tool.MergeFrom(pb.Tool(**changes))
    registered: pb.Tool = (await service.call("RegisterTool", pb.RegisterToolRequest(tool=tool))).tool
    return registered


class TestGrpc:
    @staticmethod
    def order(shop: Shop, **changes: Any) -> pb.Tool:
        grpc = pb.GrpcBinding(target=f"127.0.0.1:{shop.port}", method="shop.v1.Orders/Place", plaintext=True)
        tool = pb.Tool(name="place", description="Places an order.", side_effect=pb.SIDE_EFFECT_ASK, grpc=grpc)
        tool.MergeFrom(pb.Tool(**changes))
        return tool

    async def test_a_method_is_a_tool_with_its_servers_arguments(self, service: ToolsClient, shop: Shop) -> None:
        tool = (await service.call("RegisterTool", pb.RegisterToolRequest(tool=self.order(shop)))).tool
        assert (tool.kind, tool.grpc.method) == (pb.TOOL_KIND_GRPC, "shop.v1.Orders/Place")
        assert '"sku"' in tool.parameters_json
        status, answer = await service.execute("place", id=5, items=[{"sku": "a", "count": "2"}])
        assert (status, answer["id"], answer["items"]) == (
            pb.EXECUTION_STATUS_SUCCEEDED,
            "5",
            [{"sku": "a", "count": 2}],
        )
        status, answer = await service.execute("place", colour="BLUE")
        assert status == pb.EXECUTION_STATUS_INVALID_ARGUMENTS
        assert "COLOUR_RED" in answer["error"]
        [effect] = (await service.call("ListEffects", pb.ListEffectsRequest())).effects
        assert effect.tool_name == "place"

    async def test_the_same_server_again_makes_no_version(self, service: ToolsClient, shop: Shop) -> None:
        await service.call("RegisterTool", pb.RegisterToolRequest(tool=self.order(shop)))
        same = await service.call("UpdateTool", pb.UpdateToolRequest(tool=self.order(shop)))
        assert same.tool.version == 1

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"grpc": pb.GrpcBinding(method="shop.v1.Orders/Grow")}, "tool.grpc.method"),
            ({"grpc": pb.GrpcBinding(target="10.0.0.1:443")}, "tool.grpc.method"),
            ({"grpc": pb.GrpcBinding(auth=pb.HttpAuth(scheme=1, secret="key"))}, "tool.grpc.auth"),
            ({"side_effect": pb.SIDE_EFFECT_IDEMPOTENT}, "tool.side_effect"),
        ],
    )
    async def test_what_cannot_be_called_is_not_registered(
        self, service: ToolsClient, shop: Shop, changes: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidArgument) as raised:
            await service.call("RegisterTool", pb.RegisterToolRequest(tool=self.order(shop, **changes)))
        assert raised.value.metadata["field"] == field

    async def test_a_server_that_is_away_is_told(self, service: ToolsClient) -> None:
        async with serving(Shop()) as gone:
            pass
        assert gone.port
        with pytest.raises((Unavailable, InvalidArgument)):
            await service.call("RegisterTool", pb.RegisterToolRequest(tool=self.order(gone)))


class TestWasm:
    async def test_a_module_is_a_tool_and_its_versions_stay(self, service: ToolsClient) -> None:
        tool = await register(service, wasm=pb.WasmBinding(module=module()))
        assert (tool.kind, len(tool.wasm.sha256), tool.wasm.module) == (pb.TOOL_KIND_WASM, 64, b"")
        assert (tool.wasm.memory_mib, tool.timeout_ms) == (32, 10_000)
        assert await service.execute("mine", celsius="1.5") == (pb.EXECUTION_STATUS_SUCCEEDED, {"celsius": 1.5})
        # Without a module, the one of before stays.
        kept = pb.Tool(
            name="mine",
            description="Does it better.",
            side_effect=pb.SIDE_EFFECT_NONE,
            parameters_json=NUMBER,
            wasm=pb.WasmBinding(memory_mib=4),
        )
        changed = (await service.call("UpdateTool", pb.UpdateToolRequest(tool=kept))).tool
        assert (changed.version, changed.wasm.sha256, changed.wasm.memory_mib) == (2, tool.wasm.sha256, 4)
        assert await service.execute("mine", celsius=1) == (pb.EXECUTION_STATUS_SUCCEEDED, {"celsius": 1})

    async def test_a_module_that_spins_ends_and_is_counted(self, service: ToolsClient) -> None:
        spin = pb.WasmBinding(module=module(f"(loop (br 0)) {SAME}"))
        await register(service, wasm=spin, timeout_ms=100)
        status, answer = await service.execute("mine", celsius=1)
        assert (status, "0.1 seconds" in answer["error"]) == (pb.EXECUTION_STATUS_TIMED_OUT, True)
        [row] = (await service.call("ReportTools", pb.ReportToolsRequest())).tools
        assert (row.calls, row.timed_out) == (1, 1)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"wasm": pb.WasmBinding()}, "tool.wasm.module"),
            ({"wasm": pb.WasmBinding(module=b"(module)")}, "tool.wasm.module"),
            ({"wasm": pb.WasmBinding(module=module()), "timeout_ms": 60_000}, "tool.timeout_ms"),
            ({"wasm": pb.WasmBinding(module=module()), "side_effect": pb.SIDE_EFFECT_ASK}, "tool.side_effect"),
        ],
    )
    async def test_a_bad_module_is_not_registered(
        self, service: ToolsClient, changes: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidArgument) as raised:
            await register(service, **changes)
        assert raised.value.metadata["field"] == field


class TestPython:
    CODE = "result = celsius * 9 / 5 + 32\nprint('hot')\nround(result, digits if digits is not None else 1)"

    async def test_code_is_a_tool_and_arguments_are_its_variables(self, service: ToolsClient) -> None:
        tool = await register(service, python=pb.PythonBinding(code=self.CODE))
        assert (tool.kind, tool.python.code) == (pb.TOOL_KIND_PYTHON, self.CODE)
        status, answer = await service.execute("mine", celsius=36.66)
        assert (status, answer) == (pb.EXECUTION_STATUS_SUCCEEDED, {"result": 98.0, "stdout": "hot\n"})
        assert (await service.execute("mine", celsius=36.66, digits=3))[1]["result"] == 97.988

    async def test_code_cannot_reach_out(self, service: ToolsClient) -> None:
        await register(service, python=pb.PythonBinding(code="open('/etc/passwd').read()"))
        status, answer = await service.execute("mine", celsius=1)
        assert status in (pb.EXECUTION_STATUS_FAILED, pb.EXECUTION_STATUS_DENIED)
        assert "root:" not in str(answer)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"python": pb.PythonBinding(code="1 +")}, "tool.python.code"),
            ({"python": pb.PythonBinding(code="1"), "timeout_ms": 10_001}, "tool.timeout_ms"),
            (
                {
                    "python": pb.PythonBinding(code="1"),
                    "parameters_json": '{"type":"object","properties":{"a-b":{"type":"string"}}}',
                },
                "tool.parameters_json",
            ),
        ],
    )
    async def test_bad_code_is_not_registered(self, service: ToolsClient, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidArgument) as raised:
            await register(service, **changes)
        assert raised.value.metadata["field"] == field


async def test_no_tenant_sees_anothers_module(service: ToolsClient) -> None:
    await register(service, wasm=pb.WasmBinding(module=module()))
    call = pb.ExecuteToolRequest(name="mine", arguments_json='{"celsius": 1}', run_id="r", step=1)
    stranger = await service.call("ExecuteTool", call, tenant="t2")
    assert stranger.status == pb.EXECUTION_STATUS_UNKNOWN_TOOL
    with pytest.raises(NotFound):
        await service.call("ListToolVersions", pb.ListToolVersionsRequest(name="mine"), tenant="t2")
    with pytest.raises(AlreadyExists):
        await register(service, wasm=pb.WasmBinding(module=module()))
