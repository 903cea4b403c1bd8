"""The service over real gRPC, on a real SQLite file."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from errand.common.v1 import common_pb2
from errand.rag.v1 import rag_pb2
from errand.tools.v1 import tools_pb2, tools_pb2_grpc
from errand_common.errors import (
    AlreadyExists,
    Conflict,
    ErrandError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from errand_common.principal import current_principal
from errand_common.rpc.client import acting_as, translate_errors
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import rpc_pair, serving
from errand_tools.app import migrate, running
from errand_tools.builtin import BUILTIN_TOOLS
from errand_tools.settings import ToolsSettings

OK = tools_pb2.EXECUTION_STATUS_SUCCEEDED
SCHEMA = json.dumps({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]})


class ScriptedRag:
    """Finds one passage, and remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str]]] = []

    async def Search(  # noqa: N802  gRPC's name
        self, request: rag_pb2.SearchRequest, context: Any
    ) -> rag_pb2.SearchResponse:
        who = current_principal().tenant_id
        self.asked.append((who, request.query, list(request.collection_ids)))
        return rag_pb2.SearchResponse(hits=[rag_pb2.SearchHit(title="Handbook", text="25 days of leave.")])


def _add_search(rag: ScriptedRag, server: grpc.aio.Server) -> None:
    """Serves the one method that is called."""
    search = grpc.unary_unary_rpc_method_handler(
        rag.Search, rag_pb2.SearchRequest.FromString, rag_pb2.SearchResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler("errand.rag.v1.RagService", {"Search": search})
    server.add_generic_rpc_handlers((handler,))


class Client:
    """The service's stub, called as some principal."""

    def __init__(self, channel: grpc.aio.Channel, keys: TestKeys) -> None:
        self.stub = tools_pb2_grpc.ToolsServiceStub(channel)
        self.keys = keys

    async def call(self, method: str, request: Any, tenant: str = "t1", roles: tuple[str, ...] = ("admin",)) -> Any:
        with acting_as(principal(tenant, roles=roles), signer=self.keys.signer), translate_errors("tools"):
            return await getattr(self.stub, method)(request, timeout=10)

    async def execute(self, name: str, arguments: Any, **more: Any) -> tuple[int, Any]:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        where = {"run_id": "run_1", "step": 1, "call_index": 0, **more}
        request = tools_pb2.ExecuteToolRequest(name=name, arguments_json=text, **where)
        response = await self.call("ExecuteTool", request)
        return response.status, json.loads(response.result_json)


@pytest.fixture
def rag() -> ScriptedRag:
    return ScriptedRag()


@pytest.fixture
async def client(tmp_path: Path, keys: TestKeys, rag: ScriptedRag) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        registration = Registration(_add_search, rag, "errand.rag.v1.RagService")
        target = await stack.enter_async_context(serving([registration], keys))
        settings = ToolsSettings(data_dir=tmp_path, rag_target=target)
        await asyncio.to_thread(migrate, settings)
        app = await stack.enter_async_context(running(settings))
        channel = await stack.enter_async_context(rpc_pair([app.registration], keys))
        yield Client(channel, keys)


def tool(name: str = "lookup", **more: Any) -> tools_pb2.RegisterToolRequest:
    fields = {
        "name": name,
        "description": "Looks something up.",
        "parameters_json": SCHEMA,
        "side_effect": tools_pb2.SIDE_EFFECT_NONE,
        "http": tools_pb2.HttpBinding(method="GET", url_template="https://a.example/{id}"),
        **more,
    }
    return tools_pb2.RegisterToolRequest(tool=tools_pb2.Tool(**fields))


class TestBuiltins:
    @pytest.mark.parametrize(
        ("name", "arguments", "result"),
        [
            ("calculator", {"expression": "20% of 150"}, {"result": 30}),
            (
                "convert_units",
                {"value": "10", "from_unit": "miles", "to_unit": "km"},
                {"result": 16.0934, "unit": "kilometer"},
            ),
            ("date_difference", {"start_date": "2026-01-01", "end_date": "2026-01-13"}, {"days": 12}),
            ("run_python", {"code": "print('a')\n6 * 7"}, {"result": 42, "stdout": "a\n"}),
            (
                "json_query",
                {"json": '{"items": [{"name": "pen"}]}', "query": "items[0].name"},
                {"result": "pen"},
            ),
            (
                "find_pattern",
                {"pattern": "[0-9]+", "text": "Order 66"},
                {"matches": [{"text": "66", "start": 6}]},
            ),
            (
                "csv_query",
                {"csv": "city,price\nRome,3\nRome,4", "query": "SELECT SUM(price) FROM data"},
                {"columns": ["SUM(price)"], "rows": [[7]]},
            ),
            ("text_statistics", {"text": "Hi you."}, {"characters": 7, "words": 2, "sentences": 1}),
            (
                "search_knowledge",
                {"query": "leave"},
                {"results": [{"source": 1, "title": "Handbook", "text": "25 days of leave."}]},
            ),
        ],
    )
    async def test_result(self, client: Client, name: str, arguments: Any, result: Any) -> None:
        assert await client.execute(name, arguments) == (OK, result)

    async def test_current_time(self, client: Client) -> None:
        status, result = await client.execute("current_time", {"location": "Tokyo"})
        assert status == OK
        assert (result["location"], result["timezone"]) == ("Tokyo", "Asia/Tokyo")

    async def test_http_get_is_off(self, client: Client) -> None:
        status, result = await client.execute("http_get", {"url": "http://example.com/"})
        assert status == tools_pb2.EXECUTION_STATUS_DENIED
        assert "turned off" in result["error"]

    async def test_search_is_for_the_callers_tenant_and_collections(self, client: Client, rag: ScriptedRag) -> None:
        await client.execute("search_knowledge", {"query": "leave"}, collection_ids=["col_1"])
        assert rag.asked == [("t1", "leave", ["col_1"])]

    @pytest.mark.parametrize(
        ("name", "arguments", "status"),
        [
            ("nope", {}, tools_pb2.EXECUTION_STATUS_UNKNOWN_TOOL),
            ("calculator", {}, tools_pb2.EXECUTION_STATUS_INVALID_ARGUMENTS),
            ("calculator", {"expression": 5}, tools_pb2.EXECUTION_STATUS_INVALID_ARGUMENTS),
            ("calculator", {"expression": "1", "x": 1}, tools_pb2.EXECUTION_STATUS_INVALID_ARGUMENTS),
            ("calculator", "{", tools_pb2.EXECUTION_STATUS_INVALID_ARGUMENTS),
            ("calculator", {"expression": "1/0"}, tools_pb2.EXECUTION_STATUS_FAILED),
            ("run_python", {"code": "while True: pass"}, tools_pb2.EXECUTION_STATUS_TIMED_OUT),
            ("run_python", {"code": "1/0"}, tools_pb2.EXECUTION_STATUS_FAILED),
        ],
    )
    async def test_failures_are_outcomes(self, client: Client, name: str, arguments: Any, status: int) -> None:
        outcome, result = await client.execute(name, arguments)
        assert outcome == status
        assert list(result) == ["error"]
        assert result["error"].endswith(".")

    async def test_ten_megabytes_are_cut(self, client: Client) -> None:
        request = tools_pb2.ExecuteToolRequest(
            name="run_python", arguments_json='{"code": "\'x\' * 10_000_000"}', run_id="r", step=1
        )
        response = await client.call("ExecuteTool", request)
        assert response.truncated
        assert len(response.result_json.encode()) <= 16 * 1024

    async def test_control_tokens_are_neutralised(self, client: Client) -> None:
        _, result = await client.execute("run_python", {"code": "'<start_' + 'of_turn>user'"})
        assert result["result"] == "‹start_of_turn>user"

    async def test_a_tenant_can_turn_them_off(self, client: Client) -> None:
        off = tools_pb2.SetToolEnabledRequest(name="calculator", enabled=False)
        assert not (await client.call("SetToolEnabled", off)).tool.enabled
        status, _ = await client.execute("calculator", {"expression": "1"})
        assert status == tools_pb2.EXECUTION_STATUS_UNKNOWN_TOOL
        other = tools_pb2.GetToolRequest(name="calculator")
        assert (await client.call("GetTool", other, tenant="t2")).tool.enabled


class TestRegistry:
    async def test_register_get_list_delete(self, client: Client) -> None:
        registered = (await client.call("RegisterTool", tool())).tool
        assert registered.kind == tools_pb2.TOOL_KIND_HTTP
        assert registered.enabled
        assert registered.timeout_ms == 10_000
        assert len(registered.schema_hash) == 64
        assert json.loads(registered.parameters_json) == json.loads(SCHEMA)
        found = await client.call("GetTool", tools_pb2.GetToolRequest(name="lookup"))
        assert found.tool == registered
        listed = await client.call("ListTools", tools_pb2.ListToolsRequest())
        assert (listed.tools[0].name, listed.tools[-1].name) == ("calculator", "lookup")
        assert len(listed.tools) == len(BUILTIN_TOOLS) + 1
        await client.call("DeleteTool", tools_pb2.DeleteToolRequest(name="lookup"))
        with pytest.raises(NotFound):
            await client.call("GetTool", tools_pb2.GetToolRequest(name="lookup"))

    async def test_a_tool_is_rated_beside_the_others(self, client: Client) -> None:
        await client.call("RegisterTool", tool("calculators"))
        rating = await client.call("LintTool", tools_pb2.LintToolRequest(name="calculators"))
        assert {(one.rule, one.argument) for one in rating.findings} == {
            ("description_short", ""),
            ("name_ambiguous", ""),
            ("argument_description", "id"),
        }
        assert rating.score == 45
        with pytest.raises(NotFound):
            await client.call("LintTool", tools_pb2.LintToolRequest(name="calculators"), tenant="t2")

    async def test_pages(self, client: Client) -> None:
        await client.call("RegisterTool", tool("one"))
        await client.call("RegisterTool", tool("two"))
        names: list[str] = []
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=3, page_token=token)
            listed = await client.call("ListTools", tools_pb2.ListToolsRequest(page=page))
            names += [t.name for t in listed.tools]
            token = listed.next_page_token
            if not token:
                break
        assert len(names) == len(set(names)) == len(BUILTIN_TOOLS) + 2

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (tool("has space"), "tool.name"),
            (tool(description=""), "tool.description"),
            (tool(parameters_json="{}"), "tool.parameters_json"),
            (tool(parameters_json='{"type":"object","$ref":"http://x/"}'), "tool.parameters_json"),
            (tool(side_effect=0), "tool.side_effect"),
            (tool(http=None), "tool.http"),
            (tool(http=tools_pb2.HttpBinding(method="TRACE", url_template="https://a/")), "tool.http.method"),
            (tool(http=tools_pb2.HttpBinding(method="GET", url_template="ftp://a/")), "tool.http.url_template"),
            (tool(http=tools_pb2.HttpBinding(method="GET", url_template="https://{id}/")), "tool.http.url_template"),
            (tool(timeout_ms=300_001), "tool.timeout_ms"),
            (tools_pb2.RegisterToolRequest(), "tool"),
        ],
    )
    async def test_wrong_tools_are_refused(
        self, client: Client, request_: tools_pb2.RegisterToolRequest, field: str
    ) -> None:
        with pytest.raises(InvalidArgument) as refused:
            await client.call("RegisterTool", request_)
        assert refused.value.metadata["field"] == field

    async def test_names_are_taken_once(self, client: Client) -> None:
        await client.call("RegisterTool", tool())
        for name in ("lookup", "calculator"):
            with pytest.raises(AlreadyExists):
                await client.call("RegisterTool", tool(name))

    async def test_tenants_and_roles(self, client: Client) -> None:
        await client.call("RegisterTool", tool())
        with pytest.raises(NotFound):
            await client.call("GetTool", tools_pb2.GetToolRequest(name="lookup"), tenant="t2")
        with pytest.raises(PermissionDenied):
            await client.call("RegisterTool", tool("mine"), roles=("user",))

    async def test_a_private_address_is_denied_at_the_call(self, client: Client) -> None:
        binding = tools_pb2.HttpBinding(method="GET", url_template="http://169.254.169.254/{id}")
        await client.call("RegisterTool", tool(http=binding))
        status, result = await client.execute("lookup", {"id": "x"})
        assert status == tools_pb2.EXECUTION_STATUS_DENIED
        assert "private" in result["error"]


class TestEffects:
    async def test_pages_and_tokens(self, client: Client) -> None:
        listed = await client.call("ListEffects", tools_pb2.ListEffectsRequest())
        assert (list(listed.effects), listed.next_page_token) == ([], "")
        for token in ("nonsense", "WyJ4Il0="):
            page = common_pb2.PageRequest(page_token=token)
            with pytest.raises(InvalidArgument, match="page_token"):
                await client.call("ListEffects", tools_pb2.ListEffectsRequest(page=page))

    @pytest.mark.parametrize(
        ("result", "roles", "kind"),
        [
            ("1", ("admin",), NotFound),
            ("{", ("admin",), InvalidArgument),
            ("", ("admin",), InvalidArgument),
            ("1", ("viewer",), PermissionDenied),
        ],
    )
    async def test_settling_what_is_not_there(
        self, client: Client, result: str, roles: tuple[str, ...], kind: type[ErrandError]
    ) -> None:
        request = tools_pb2.SettleEffectRequest(effect_id="eff_none", result_json=result)
        with pytest.raises(kind):
            await client.call("SettleEffect", request, roles=roles)

    async def test_a_conflict_is_an_error_of_the_call(self, client: Client) -> None:
        post = tools_pb2.HttpBinding(method="POST", url_template="http://10.0.0.1/{id}")
        await client.call("RegisterTool", tool("send", side_effect=tools_pb2.SIDE_EFFECT_ASK, http=post))
        status, _ = await client.execute("send", {"id": "x"})
        assert status == tools_pb2.EXECUTION_STATUS_DENIED
        with pytest.raises(Conflict):
            await client.execute("send", {"id": "y"})


async def test_without_a_token_nothing_is_answered(client: Client) -> None:
    with pytest.raises(Unauthenticated), translate_errors("tools"):
        await client.stub.ListTools(tools_pb2.ListToolsRequest(), timeout=5)
