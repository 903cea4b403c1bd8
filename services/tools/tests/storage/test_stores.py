"""One suite over every store: in memory, SQLite, Postgres."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import AlreadyExists, Conflict
from errand_tools.domain.effects import (
    CallPosition,
    Dispatch,
    EffectFilter,
    EffectState,
    cursor_of,
    effect_id,
)
from errand_tools.domain.mcp import McpServer
from errand_tools.domain.ports import EVERY_TOOL, Page, ToolFilter
from errand_tools.domain.secrets import SealedSecret, Secret
from errand_tools.domain.tools import (
    AuthScheme,
    ExecutionStatus,
    HttpAuth,
    McpBinding,
    Offer,
    Outcome,
    SideEffect,
    ToolKind,
)
from errand_tools.domain.usage import Usage, UsageKey

from .conftest import Stores, tool

NOW = datetime(2026, 11, 21, 4, 5, 6, 789012, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=30)
TABLES = (
    "tools",
    "disabled_builtins",
    "effects",
    "secrets",
    "mcp_servers",
    "tool_versions",
    "tool_artifacts",
    "tool_usage",
)


def dispatch(index: int = 0, tenant: str = "t1", run: str = "run_1") -> Dispatch:
    position = CallPosition(run, 1, index)
    return Dispatch(
        effect_id=effect_id(tenant, position),
        position=position,
        tool_name="send_mail",
        arguments_hash="a" * 64,
        side_effect=SideEffect.ASK,
        owner="p1",
        lease_until=LEASE,
    )


async def test_a_tool_comes_back_as_it_was(stores: Stores) -> None:
    await stores.tools.add("t1", tool(), most=10)
    assert await stores.tools.get("t1", "send_mail") == tool()
    assert await stores.tools.get("t1", "other") is None


async def test_names_are_unique_in_a_tenant_only(stores: Stores) -> None:
    await stores.tools.add("t1", tool(), most=10)
    await stores.tools.add("t2", tool(), most=10)
    with pytest.raises(AlreadyExists):
        await stores.tools.add("t1", tool(), most=10)


async def test_a_tenant_has_a_limit(stores: Stores) -> None:
    await stores.tools.add("t1", tool("a"), most=2)
    await stores.tools.add("t1", tool("b"), most=2)
    with pytest.raises(Conflict, match="delete one first"):
        await stores.tools.add("t1", tool("c"), most=2)
    await stores.tools.add("t2", tool("c"), most=2)


async def test_tools_are_listed_by_name_in_pages(stores: Stores) -> None:
    for name in ("d", "a", "c", "b"):
        await stores.tools.add("t1", tool(name), most=10)
    await stores.tools.add("t2", tool("x"), most=10)
    await stores.tools.set_enabled("t1", "c", enabled=False)

    async def names(page: Page, *, enabled_only: bool) -> list[str]:
        return [t.name for t in await stores.tools.list("t1", page, ToolFilter(enabled_only=enabled_only))]

    assert await names(Page(2), enabled_only=False) == ["a", "b"]
    assert await names(Page(2, "b"), enabled_only=False) == ["c", "d"]
    assert await names(Page(9), enabled_only=True) == ["a", "b", "d"]


async def test_tools_are_switched_and_deleted(stores: Stores) -> None:
    await stores.tools.add("t1", tool(), most=10)
    assert not await stores.tools.set_enabled("t2", "send_mail", enabled=False)
    assert await stores.tools.set_enabled("t1", "send_mail", enabled=False)
    assert await stores.tools.get("t1", "send_mail") == tool(enabled=False)
    assert not await stores.tools.delete("t2", "send_mail")
    assert await stores.tools.delete("t1", "send_mail")
    assert not await stores.tools.delete("t1", "send_mail")
    assert await stores.tools.get("t1", "send_mail") is None


async def test_builtins_are_switched_for_a_tenant(stores: Stores) -> None:
    for _ in range(2):
        await stores.tools.set_builtin_enabled("t1", "calculator", enabled=False)
    assert await stores.tools.disabled_builtins("t1") == {"calculator"}
    assert await stores.tools.disabled_builtins("t2") == frozenset()
    for _ in range(2):
        await stores.tools.set_builtin_enabled("t1", "calculator", enabled=True)
    assert await stores.tools.disabled_builtins("t1") == frozenset()


async def test_an_effect_begins_once(stores: Stores) -> None:
    assert await stores.effects.begin("t1", dispatch(), NOW) is None
    again = await stores.effects.begin("t1", replace(dispatch(), owner="p2"), NOW)
    assert again is not None
    assert again == await stores.effects.get("t1", dispatch().effect_id)
    assert (again.owner, again.attempt, again.state) == ("p1", 1, EffectState.DISPATCHED)
    assert (again.created_at, again.lease_until) == (NOW, LEASE)
    assert again.position == CallPosition("run_1", 1, 0)
    assert await stores.effects.get("t2", dispatch().effect_id) is None


async def test_of_many_that_begin_one_is_first(stores: Stores) -> None:
    begun = await asyncio.gather(
        *(stores.effects.begin("t1", replace(dispatch(), owner=f"p{number}"), NOW) for number in range(8))
    )
    assert sum(effect is None for effect in begun) == 1


async def test_the_outcome_is_stored(stores: Stores) -> None:
    await stores.effects.begin("t1", dispatch(), NOW)
    id_ = dispatch().effect_id
    outcome = Outcome(ExecutionStatus.FAILED, '{"error": "no"}', 12.5, True, id_)
    assert not await stores.effects.complete("t1", id_, outcome, owner="p2", now=LEASE)
    assert not await stores.effects.complete("t2", id_, outcome, owner="p1", now=LEASE)
    assert await stores.effects.complete("t1", id_, outcome, owner="p1", now=LEASE)
    stored = await stores.effects.get("t1", id_)
    assert stored is not None
    assert stored.outcome == outcome
    assert (stored.state, stored.completed_at) == (EffectState.COMPLETED, LEASE)
    assert not await stores.effects.complete("t1", id_, outcome, owner="p1", now=LEASE)


async def test_one_of_many_takes_an_effect_over(stores: Stores) -> None:
    await stores.effects.begin("t1", dispatch(), NOW)
    effect = await stores.effects.get("t1", dispatch().effect_id)
    assert effect is not None
    taken = await asyncio.gather(
        *(stores.effects.take_over("t1", effect, owner=f"q{number}", now=NOW, lease_until=LEASE) for number in range(8))
    )
    assert sum(taken) == 1
    now = await stores.effects.get("t1", effect.id)
    assert now is not None
    assert (now.owner, now.attempt) == (f"q{taken.index(True)}", 2)


async def test_the_one_taken_from_can_not_complete(stores: Stores) -> None:
    await stores.effects.begin("t1", dispatch(), NOW)
    effect = await stores.effects.get("t1", dispatch().effect_id)
    assert effect is not None
    await stores.effects.take_over("t1", effect, owner="p2", now=NOW, lease_until=LEASE)
    outcome = Outcome(ExecutionStatus.SUCCEEDED, "1")
    assert not await stores.effects.complete("t1", effect.id, outcome, owner="p1", now=NOW)


async def test_an_unsettled_effect_is_settled_once(stores: Stores) -> None:
    await stores.effects.begin("t1", dispatch(), NOW)
    id_ = dispatch().effect_id
    outcome = Outcome(ExecutionStatus.SUCCEEDED, '{"sent": true}', effect_id=id_)
    assert await stores.effects.settle("t1", id_, outcome, NOW) is None
    assert await stores.effects.leave_unsettled("t1", id_, owner="p1", now=NOW)
    assert await stores.effects.settle("t2", id_, outcome, NOW) is None
    settled = await stores.effects.settle("t1", id_, outcome, LEASE)
    assert settled is not None
    assert settled.outcome == outcome
    assert settled.completed_at == LEASE
    assert await stores.effects.settle("t1", id_, outcome, NOW) is None


async def test_effects_are_listed_newest_first_in_pages(stores: Stores) -> None:
    for index in range(5):
        # Two moments for five effects: equal times must not lose or repeat rows.
        await stores.effects.begin("t1", dispatch(index), NOW + timedelta(seconds=index // 3))
    await stores.effects.begin("t1", dispatch(0, run="run_2"), NOW - timedelta(days=1))
    await stores.effects.begin("t2", dispatch(0, "t2"), NOW)
    seen: list[str] = []
    after = ""
    while page := await stores.effects.list("t1", Page(2, after), EffectFilter()):
        seen += [effect.id for effect in page]
        after = cursor_of(page[-1])
    assert len(seen) == len(set(seen)) == 6
    assert seen[-1] == dispatch(0, run="run_2").effect_id
    everything = await stores.effects.list("t1", Page(50), EffectFilter())
    assert [effect.id for effect in everything] == seen


async def test_effects_are_filtered(stores: Stores) -> None:
    await stores.effects.begin("t1", dispatch(0), NOW)
    await stores.effects.begin("t1", dispatch(1), NOW)
    await stores.effects.begin("t1", dispatch(0, run="run_2"), NOW)
    await stores.effects.leave_unsettled("t1", dispatch(1).effect_id, owner="p1", now=NOW)
    of_run = await stores.effects.list("t1", Page(9), EffectFilter(run_id="run_2"))
    assert [effect.position.run_id for effect in of_run] == ["run_2"]
    unsettled = await stores.effects.list("t1", Page(9), EffectFilter(state=EffectState.UNSETTLED))
    assert [effect.id for effect in unsettled] == [dispatch(1).effect_id]


async def test_old_completed_effects_are_purged(stores: Stores) -> None:
    for index in range(3):
        await stores.effects.begin("t1", dispatch(index), NOW)
    done = Outcome(ExecutionStatus.SUCCEEDED, "1")
    await stores.effects.complete("t1", dispatch(0).effect_id, done, owner="p1", now=NOW)
    await stores.effects.complete("t1", dispatch(1).effect_id, done, owner="p1", now=LEASE)
    assert await stores.effects.purge("t2", completed_before=LEASE, most=10) == 0
    assert await stores.effects.purge("t1", completed_before=LEASE, most=10) == 1
    left = await stores.effects.list("t1", Page(9), EffectFilter())
    assert {effect.position.call_index for effect in left} == {1, 2}


@pytest.mark.parametrize("table", TABLES)
async def test_postgres_shows_a_tenant_its_own_rows_only(
    postgres: Stores, postgres_database: Database, table: str
) -> None:
    await postgres.tools.add("t1", tool(), most=10, artifact=b"x")
    await postgres.tools.set_builtin_enabled("t1", "calculator", enabled=False)
    await postgres.effects.begin("t1", dispatch(), NOW)
    await postgres.mcp.add("t1", McpServer("docs", "https://a.example"), most=1)
    await postgres.secrets.put("t1", SealedSecret(Secret("key", (), NOW), "x"), most=1)
    key = UsageKey("send_mail", 1, "a" * 12, NOW.date(), ExecutionStatus.SUCCEEDED, 0)
    await postgres.usage.add("t1", [Usage(key, 1, 0)])
    counted = {}
    for tenant in ("t1", "t2", None):
        async with postgres_database.transaction(tenant) as session:
            counted[tenant] = await session.scalar(sa.text(f"SELECT count(*) FROM {table}"))
    assert counted == {"t1": 1, "t2": 0, None: 0}


async def test_postgres_refuses_rows_of_another_tenant(postgres_database: Database) -> None:
    statement = sa.text("INSERT INTO disabled_builtins VALUES ('t1', 'calculator')")
    with pytest.raises(sa.exc.DBAPIError, match="row-level security"):
        async with postgres_database.transaction("t2") as session:
            await session.execute(statement)


async def test_every_tenant_table_is_in_the_list(postgres_database: Database) -> None:
    async with postgres_database.transaction(None) as session:
        found = await session.scalars(
            sa.text(
                "SELECT table_name FROM information_schema.columns"
                " WHERE table_schema = 'tools' AND column_name = 'tenant_id'"
            )
        )
        assert set(found) == set(TABLES)


class TestSecrets:
    def sealed(self, name: str = "key", sealed: str = "x") -> SealedSecret:
        return SealedSecret(Secret(name, ("a.example",), NOW), sealed)

    async def test_put_get_replace_delete(self, stores: Stores) -> None:
        await stores.secrets.put("t1", self.sealed(), most=2)
        assert await stores.secrets.get("t1", "key") == self.sealed()
        assert await stores.secrets.get("t2", "key") is None
        await stores.secrets.put("t1", self.sealed(sealed="y"), most=1)
        assert await stores.secrets.get("t1", "key") == self.sealed(sealed="y")
        assert await stores.secrets.list("t1") == [self.sealed().secret]
        assert not await stores.secrets.delete("t2", "key")
        assert await stores.secrets.delete("t1", "key")
        assert await stores.secrets.list("t1") == []

    async def test_there_are_at_most_so_many(self, stores: Stores) -> None:
        await stores.secrets.put("t1", self.sealed("one"), most=1)
        with pytest.raises(Conflict):
            await stores.secrets.put("t1", self.sealed("two"), most=1)


class TestManyTools:
    async def test_names_that_are_taken_stay(self, stores: Stores) -> None:
        await stores.tools.add("t1", tool("one"), most=10)
        changed = [tool("one", description="New."), tool("two")]
        taken = await stores.tools.put_all("t1", changed, most=10, replace=False, dry_run=False)
        assert taken == {"one"}
        kept = await stores.tools.list("t1", Page(10), EVERY_TOOL)
        assert [(one.name, one.description) for one in kept] == [("one", "Sends a mail."), ("two", "Sends a mail.")]

    async def test_replaced_ones_stay_as_enabled_as_they_were(self, stores: Stores) -> None:
        await stores.tools.add("t1", tool("one"), most=10)
        await stores.tools.set_enabled("t1", "one", enabled=False)
        changed = [tool("one", description="New.")]
        assert not await stores.tools.put_all("t1", changed, most=1, replace=True, dry_run=False)
        assert await stores.tools.get("t1", "one") == tool("one", description="New.", enabled=False, version=2)

    async def test_nothing_is_added_over_the_limit_or_by_a_dry_run(self, stores: Stores) -> None:
        with pytest.raises(Conflict):
            await stores.tools.put_all("t1", [tool("one"), tool("two")], most=1, replace=True, dry_run=False)
        await stores.tools.put_all("t1", [tool("one")], most=1, replace=True, dry_run=True)
        assert await stores.tools.list("t1", Page(10), EVERY_TOOL) == []


class TestMcpServers:
    SERVER = McpServer("docs", "https://a.example/mcp", auth=HttpAuth(AuthScheme.BEARER, "key"), timeout_ms=500)

    async def test_add_get_list_delete(self, stores: Stores) -> None:
        await stores.mcp.add("t1", self.SERVER, most=2)
        assert await stores.mcp.get("t1", "docs") == self.SERVER
        assert await stores.mcp.get("t2", "docs") is None
        with pytest.raises(AlreadyExists):
            await stores.mcp.add("t1", self.SERVER, most=2)
        with pytest.raises(Conflict):
            await stores.mcp.add("t1", McpServer("more", stdio="git"), most=1)
        assert await stores.mcp.list("t1") == [self.SERVER]
        assert await stores.mcp.delete("t1", "docs")
        assert not await stores.mcp.delete("t1", "docs")

    async def test_a_held_tool_is_kept_and_not_offered(self, stores: Stores) -> None:
        offer = Offer("New.", {"type": "object"}, "1" * 64)
        held = tool("docs.find", kind=ToolKind.MCP, http=None, mcp=McpBinding("docs", "find"), offer=offer)
        await stores.tools.add("t1", held, most=1)
        assert await stores.tools.get("t1", "docs.find") == held
        assert await stores.tools.list("t1", Page(5), ToolFilter(enabled_only=True)) == []
        assert await stores.tools.list("t1", Page(5), EVERY_TOOL) == [held]
