"""Registering, listing and switching tools."""

from dataclasses import replace
from typing import Any

import pytest
from errand_common.errors import (
    AlreadyExists,
    ErrandError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from errand_common.testing.keys import principal
from errand_tools.domain.ports import Page, ToolFilter
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.tools import (
    GrpcBinding,
    HttpBinding,
    McpBinding,
    PythonBinding,
    RetryClass,
    SideEffect,
    Tool,
    ToolKind,
    ToolLimits,
    ToolPolicy,
    schema_hash,
)
from errand_tools.testing import InMemoryToolStore, secret_book

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
ADMIN = principal("t1")


def tool(name: str = "lookup", **changes: Any) -> Tool:
    binding = HttpBinding("POST", "https://a.example/{id}")
    return replace(Tool(name, "Looks up.", SCHEMA, timeout_ms=0, http=binding), **changes)


@pytest.fixture
def registry() -> ToolRegistry:
    builtins = [Tool(name, "A built-in.", SCHEMA, kind=ToolKind.BUILTIN) for name in ("zeta", "alpha")]
    return ToolRegistry(InMemoryToolStore(), builtins, secret_book(), cache_seconds=60)


async def test_a_registered_tool_can_be_found(registry: ToolRegistry) -> None:
    registered = await registry.register(ADMIN, tool())
    assert await registry.get("t1", "lookup") == registered
    assert registered.timeout_ms == 10_000
    assert registered.enabled
    assert registered.kind is ToolKind.HTTP
    assert registered.schema_hash == schema_hash("Looks up.", SCHEMA)
    with pytest.raises(NotFound):
        await registry.get("t2", "lookup")


def test_the_hash_changes_with_what_the_model_sees() -> None:
    assert schema_hash("a", SCHEMA) != schema_hash("b", SCHEMA)
    assert schema_hash("a", SCHEMA) != schema_hash("a", {"type": "object"})
    reordered = dict(reversed(list(SCHEMA.items())))
    assert schema_hash("a", SCHEMA) == schema_hash("a", reordered)


async def test_a_miss_is_not_remembered_after_registering(registry: ToolRegistry) -> None:
    assert await registry.find("t1", "lookup") is None
    await registry.register(ADMIN, tool())
    assert await registry.find("t1", "lookup") is not None


@pytest.mark.parametrize(
    ("wrong", "kind", "field"),
    [
        (tool("alpha"), AlreadyExists, None),
        (tool("has space"), InvalidArgument, "tool.name"),
        (tool(""), InvalidArgument, "tool.name"),
        (tool("x" * 129), InvalidArgument, "tool.name"),
        (tool(http=None), InvalidArgument, "tool.http"),
        (tool(http=HttpBinding("GET", "https://{id}/")), InvalidArgument, "tool.http.url_template"),
        (tool(side_effect=SideEffect.RECONCILE), InvalidArgument, "tool.reconcile_tool"),
        (
            tool(side_effect=SideEffect.RECONCILE, reconcile_tool="none"),
            InvalidArgument,
            "tool.reconcile_tool",
        ),
        (tool(reconcile_tool="alpha"), InvalidArgument, "tool.reconcile_tool"),
        (
            tool(side_effect=SideEffect.ASK, http=HttpBinding("GET", "https://a.example/{id}")),
            InvalidArgument,
            "tool.side_effect",
        ),
    ],
)
async def test_wrong_tools_are_refused(
    registry: ToolRegistry, wrong: Tool, kind: type[ErrandError], field: str | None
) -> None:
    with pytest.raises(kind) as refused:
        await registry.register(ADMIN, wrong)
    assert refused.value.metadata.get("field") == field


async def test_a_query_tool_must_have_no_side_effect(registry: ToolRegistry) -> None:
    await registry.register(ADMIN, tool("ask_tool", side_effect=SideEffect.ASK))
    await registry.register(ADMIN, tool("query"))
    reconciled = tool("send", side_effect=SideEffect.RECONCILE, reconcile_tool="ask_tool")
    with pytest.raises(InvalidArgument):
        await registry.register(ADMIN, reconciled)
    await registry.register(ADMIN, replace(reconciled, reconcile_tool="query"))


async def test_names_are_unique(registry: ToolRegistry) -> None:
    await registry.register(ADMIN, tool())
    with pytest.raises(AlreadyExists):
        await registry.register(ADMIN, tool())


async def test_built_in_tools_come_first_then_names(registry: ToolRegistry) -> None:
    for name in ("mid", "beta", "yes"):
        await registry.register(ADMIN, tool(name))
    await registry.set_enabled(ADMIN, "zeta", enabled=False)
    await registry.set_enabled(ADMIN, "mid", enabled=False)

    async def listed(size: int, *, enabled_only: bool) -> list[str]:
        names: list[str] = []
        cursor = ""
        while True:
            page = await registry.list_page("t1", Page(size, cursor), ToolFilter(enabled_only=enabled_only))
            assert len(page.tools) <= size
            names += [found.name for found in page.tools]
            cursor = page.next_cursor
            if not cursor:
                return names

    for size in (1, 2, 3, 50):
        assert await listed(size, enabled_only=False) == ["zeta", "alpha", "beta", "mid", "yes"]
        assert await listed(size, enabled_only=True) == ["alpha", "beta", "yes"]


async def test_switching_is_for_the_tenant(registry: ToolRegistry) -> None:
    off = await registry.set_enabled(ADMIN, "zeta", enabled=False)
    assert not off.enabled
    assert not (await registry.get("t1", "zeta")).enabled
    assert (await registry.get("t2", "zeta")).enabled
    assert (await registry.set_enabled(ADMIN, "zeta", enabled=True)).enabled
    with pytest.raises(NotFound):
        await registry.set_enabled(ADMIN, "none", enabled=True)


async def test_deleting(registry: ToolRegistry) -> None:
    await registry.register(ADMIN, tool())
    await registry.delete(ADMIN, "lookup")
    assert await registry.find("t1", "lookup") is None
    with pytest.raises(NotFound):
        await registry.delete(ADMIN, "lookup")
    with pytest.raises(InvalidArgument, match="turn it off"):
        await registry.delete(ADMIN, "zeta")


@pytest.mark.parametrize("role", ["user", "viewer"])
async def test_users_may_not_change_tools(registry: ToolRegistry, role: str) -> None:
    user = principal("t1", roles=(role,))
    with pytest.raises(PermissionDenied):
        await registry.register(user, tool())
    with pytest.raises(PermissionDenied):
        await registry.set_enabled(user, "zeta", enabled=False)
    with pytest.raises(PermissionDenied):
        await registry.delete(user, "lookup")


async def test_lookups_are_kept_for_a_while_only() -> None:
    store = InMemoryToolStore()
    now = [0.0]
    registry = ToolRegistry(store, [], secret_book(), cache_seconds=2, clock=lambda: now[0])
    await registry.register(ADMIN, tool())
    await registry.find("t1", "lookup")
    await store.delete("t1", "lookup")
    assert await registry.find("t1", "lookup") is not None
    now[0] = 3
    assert await registry.find("t1", "lookup") is None


class TestChanges:
    async def test_a_change_is_seen_at_once_as_a_new_version(self, registry: ToolRegistry) -> None:
        await registry.register(ADMIN, tool())
        assert (await registry.get("t1", "lookup")).version == 1
        await registry.update(ADMIN, tool(description="Looks up orders."), expected_version=1)
        found = await registry.get("t1", "lookup")
        assert (found.version, found.description) == (2, "Looks up orders.")
        assert [one.version for one in await registry.versions("t1", "lookup")] == [2, 1]
        assert [one.version for one in await registry.versions("t1", "alpha")] == [1]
        with pytest.raises(NotFound):
            await registry.versions("t1", "nobody")

    async def test_built_in_ones_and_strangers_cannot_be_changed(self, registry: ToolRegistry) -> None:
        with pytest.raises(InvalidArgument, match="built in"):
            await registry.update(ADMIN, tool("alpha"))
        with pytest.raises(NotFound):
            await registry.update(ADMIN, tool())
        with pytest.raises(PermissionDenied):
            await registry.update(principal("t1", roles=("viewer",)), tool())

    async def test_a_servers_tool_keeps_its_words_and_takes_rules(self, registry: ToolRegistry) -> None:
        remote = tool("docs.find", http=None, kind=ToolKind.MCP, mcp=McpBinding("docs", "find"), schema_hash="1" * 64)
        await registry.register_all(ADMIN, [remote], replace=False)
        wanted = tool("docs.find", description="Mine.", policy=ToolPolicy.DENY, limits=ToolLimits(9), cost_micros=4)
        wanted = replace(wanted, retry=RetryClass.TRANSIENT)
        changed = await registry.update(ADMIN, wanted)
        assert (changed.description, changed.mcp, changed.schema_hash) == ("Looks up.", remote.mcp, "1" * 64)
        assert (changed.policy, changed.limits.calls_per_minute, changed.cost_micros) == (ToolPolicy.DENY, 9, 4)
        assert changed.retry is RetryClass.TRANSIENT
        with pytest.raises(InvalidArgument, match="NONE or ASK"):
            await registry.update(ADMIN, tool("docs.find", side_effect=SideEffect.IDEMPOTENT))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"http": None}, "tool.http"),
            ({"python": PythonBinding("1")}, "tool.http"),
            ({"http": None, "python": PythonBinding("1"), "side_effect": SideEffect.ASK}, "tool.side_effect"),
            (
                {"http": None, "grpc": GrpcBinding("a:1", "b/C"), "side_effect": SideEffect.IDEMPOTENT},
                "tool.side_effect",
            ),
        ],
    )
    async def test_a_tool_is_of_one_kind_and_its_class_fits(
        self, registry: ToolRegistry, changes: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidArgument) as raised:
            await registry.register(ADMIN, tool(**changes))
        assert raised.value.metadata["field"] == field

    @pytest.mark.parametrize(
        ("example", "words"),
        [("[1]", "JSON object"), ("{", "JSON object"), ('{"id": 5}', "'id' is not valid"), ("{}", "missing")],
    )
    async def test_examples_fit_the_schema(self, registry: ToolRegistry, example: str, words: str) -> None:
        good = '{"id": "a"}'
        assert (await registry.register(ADMIN, tool(examples=(good,)))).examples == (good,)
        with pytest.raises(InvalidArgument, match=words) as raised:
            await registry.update(ADMIN, tool(examples=(good, example)))
        assert raised.value.metadata["field"] == "tool.examples_json[1]"

    async def test_built_in_ones_are_found_by_words_and_kind(self, registry: ToolRegistry) -> None:
        await registry.register(ADMIN, tool())

        async def names(only: ToolFilter) -> list[str]:
            return [one.name for one in (await registry.list_page("t1", Page(10), only)).tools]

        assert await names(ToolFilter(words=("alph",))) == ["alpha"]
        assert await names(ToolFilter(kind=ToolKind.BUILTIN)) == ["zeta", "alpha"]
        assert await names(ToolFilter(kind=ToolKind.HTTP)) == ["lookup"]
