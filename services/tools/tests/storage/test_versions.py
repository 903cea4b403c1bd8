"""Versions of tools, the bytes they name, finding them, and counts of their calls, over every store."""

import hashlib
from dataclasses import replace
from datetime import date

import pytest
from errand_common.errors import Conflict, NotFound
from errand_tools.domain.ports import MAX_VERSIONS, Page, ToolFilter
from errand_tools.domain.tools import (
    ExecutionStatus,
    McpBinding,
    RetryClass,
    Tool,
    ToolKind,
    ToolLimits,
    ToolPolicy,
    WasmBinding,
)
from errand_tools.domain.usage import Usage, UsageKey

from .conftest import Stores, tool


class TestVersions:
    async def test_a_change_makes_one_and_the_same_again_none(self, stores: Stores) -> None:
        await stores.tools.add(
            "t1",
            tool(
                limits=ToolLimits(5, 2),
                cost_micros=7,
                examples=("{}",),
                result_schema={"type": "array"},
                retry=RetryClass.TRANSIENT,
            ),
            most=10,
        )
        await stores.tools.set_enabled("t1", "send_mail", enabled=False)
        known = await stores.tools.get("t1", "send_mail")
        assert known is not None
        assert (known.examples, known.result_schema) == (("{}",), {"type": "array"})
        assert known.retry is RetryClass.TRANSIENT
        same = await stores.tools.update("t1", known, expected_version=1)
        changed = tool(policy=ToolPolicy.DENY, role_policies=(("admin", ToolPolicy.AUTO),))
        stored = await stores.tools.update("t1", changed, expected_version=1)
        assert (same.version, stored.version, stored.enabled) == (1, 2, False)
        assert await stores.tools.get("t1", "send_mail") == stored
        versions = await stores.tools.versions("t1", "send_mail")
        assert [(one.version, one.policy, one.cost_micros) for one in versions] == [
            (2, ToolPolicy.DENY, 0),
            (1, ToolPolicy.ASK, 7),
        ]
        assert all(one.updated_at for one in versions)
        assert await stores.tools.versions("t2", "send_mail") == []

    async def test_another_version_than_the_expected_one_is_refused(self, stores: Stores) -> None:
        await stores.tools.add("t1", tool(), most=10)
        with pytest.raises(Conflict, match="version 1 by now"):
            await stores.tools.update("t1", tool(description="New."), expected_version=2)
        with pytest.raises(NotFound):
            await stores.tools.update("t2", tool(), expected_version=0)

    async def test_only_the_newest_are_kept(self, stores: Stores) -> None:
        await stores.tools.add("t1", tool(), most=10)
        for number in range(MAX_VERSIONS + 3):
            await stores.tools.update("t1", tool(description=f"The {number}."), expected_version=0)
        versions = await stores.tools.versions("t1", "send_mail")
        assert [one.version for one in versions] == list(range(MAX_VERSIONS + 4, 4, -1))

    async def test_bytes_are_kept_while_a_version_names_them(self, stores: Stores) -> None:
        first, second = b"\0first", b"\0second"
        named = {one: hashlib.sha256(one).hexdigest() for one in (first, second)}

        def wasm(content: bytes) -> Tool:
            return tool(http=None, kind=ToolKind.WASM, wasm=WasmBinding(named[content]))

        await stores.tools.add("t1", wasm(first), most=10, artifact=first)
        await stores.tools.update("t1", wasm(second), expected_version=1, artifact=second)
        assert [await stores.tools.artifact("t1", named[one]) for one in named] == [first, second]
        assert await stores.tools.artifact("t2", named[first]) is None
        assert await stores.tools.delete("t1", "send_mail")
        assert [await stores.tools.artifact("t1", named[one]) for one in named] == [None, None]
        assert await stores.tools.versions("t1", "send_mail") == []


async def test_tools_are_found_by_words_kind_and_server(stores: Stores) -> None:
    mail = tool("send_mail", description="Writes to PEOPLE.")
    docs = tool("docs.find", kind=ToolKind.MCP, http=None, mcp=McpBinding("docs", "find"), description="100% of it.")
    more = tool("docs-2.find", kind=ToolKind.MCP, http=None, mcp=McpBinding("docs-2", "find"))
    for one in (mail, docs, more):
        await stores.tools.add("t1", one, most=10)

    async def names(only: ToolFilter) -> list[str]:
        return [one.name for one in await stores.tools.list("t1", Page(10), only)]

    assert await names(ToolFilter(words=("people", "mail"))) == ["send_mail"]
    assert await names(ToolFilter(words=("people", "docs"))) == []
    # Wildcards of the database are plain text.
    assert await names(ToolFilter(words=("100%",))) == ["docs.find"]
    assert await names(ToolFilter(words=("d_cs",))) == []
    assert await names(ToolFilter(kind=ToolKind.HTTP)) == ["send_mail"]
    assert await names(ToolFilter(mcp_server="docs")) == ["docs.find"]


class TestUsage:
    KEY = UsageKey("send_mail", 2, "a" * 12, date(2026, 11, 21), ExecutionStatus.SUCCEEDED, 5)

    async def test_counts_add_up(self, stores: Stores) -> None:
        other = replace(self.KEY, status=ExecutionStatus.INVALID_ARGUMENTS, bucket=-1, argument="to")
        await stores.usage.add("t1", [Usage(self.KEY, 2, 30), Usage(other, 1, 0)])
        await stores.usage.add("t1", [Usage(self.KEY, 3, 10)])
        await stores.usage.add("t2", [Usage(self.KEY, 9, 0)])
        found = await stores.usage.since("t1", self.KEY.day, "")
        assert sorted(found, key=lambda usage: usage.calls) == [Usage(other, 1, 0), Usage(self.KEY, 5, 40)]
        assert await stores.usage.since("t1", self.KEY.day, "other") == []
        assert await stores.usage.since("t1", date(2026, 11, 22), "") == []

    async def test_old_days_go(self, stores: Stores) -> None:
        old = replace(self.KEY, day=date(2026, 8, 1))
        await stores.usage.add("t1", [Usage(self.KEY, 1, 0), Usage(old, 1, 0)])
        await stores.usage.purge("t1", date(2026, 11, 1))
        assert await stores.usage.since("t1", date(2026, 1, 1), "") == [Usage(self.KEY, 1, 0)]

    async def test_many_counts_at_once(self, stores: Stores) -> None:
        keys = [replace(self.KEY, tool_name=f"tool_{number}") for number in range(2_500)]
        await stores.usage.add("t1", [Usage(key, 1, 0) for key in keys])
        assert len(await stores.usage.since("t1", self.KEY.day, "")) == 2_500
