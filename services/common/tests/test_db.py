"""Databases: real SQLite files and a real Postgres."""

import asyncio
import multiprocessing
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from errand_common.db import Database, UtcDateTime, decode_page_token, encode_page_token, migrate, new_id
from errand_common.errors import InvalidArgument, Unavailable
from errand_common.statements import Statement
from errand_common.testing.keys import free_port
from sqlalchemy.exc import DBAPIError

_MIGRATION = textwrap.dedent(
    '''
    """First."""
    import sqlalchemy as sa
    from alembic import op
    from errand_common.db import UtcDateTime, enable_tenant_isolation

    revision, down_revision = "0001", None

    def upgrade():
        op.create_table(
            "notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("tenant_id", sa.Text, nullable=False),
            sa.Column("at", UtcDateTime),
        )
        enable_tenant_isolation(op, "notes")
    '''
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of migrations, importable in this process and in its children."""
    name = new_id("migrations")
    versions = tmp_path / name / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (versions / "0001_first.py").write_text(_MIGRATION)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


@pytest.fixture
async def sqlite(tmp_path: Path, package: str) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/x.db"
    migrate(url, package=package, schema="test")
    database = Database(url, schema="test")
    yield database
    await database.close()


@pytest.fixture
async def postgres(postgres_url: str, package: str) -> AsyncIterator[Database]:
    migrate(postgres_url, package=package, schema="test")
    database = Database(postgres_url, schema="test")
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    chosen: Database = request.getfixturevalue(request.param)
    return chosen


_NOTES = sa.table("notes", sa.column("tenant_id"), sa.column("at", UtcDateTime))


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_errors(database: Database) -> None:
    async with database.transaction("a") as session:
        await session.execute(_NOTES.insert().values(tenant_id="a"))
    with pytest.raises(RuntimeError):  # noqa: PT012 - the block is what is tested
        async with database.transaction("a") as session:
            await session.execute(_NOTES.insert().values(tenant_id="a"))
            raise RuntimeError("boom")
    async with database.transaction("a") as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(_NOTES)) == 1


async def test_moments_keep_their_zone(database: Database) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    async with database.transaction("a") as session:
        await session.execute(_NOTES.insert().values(tenant_id="a", at=moment))
    async with database.transaction("a") as session:
        assert await session.scalar(sa.select(_NOTES.c.at)) == moment.astimezone(UTC)


async def test_postgres_hides_other_tenants_even_from_a_forgotten_filter(postgres: Database) -> None:
    async with postgres.transaction("a") as session:
        await session.execute(_NOTES.insert().values(tenant_id="a"))
    for tenant in ("b", None):
        async with postgres.transaction(tenant) as session:
            assert await session.scalar(sa.select(sa.func.count()).select_from(_NOTES)) == 0
    with pytest.raises(DBAPIError, match="row-level security"):
        async with postgres.transaction("b") as session:
            await session.execute(_NOTES.insert().values(tenant_id="a"))


_ADD = Statement(
    sa.insert(_NOTES).values(tenant_id=sa.bindparam("of"), at=sa.bindparam("at")).returning(_NOTES.c.tenant_id)
)


_CLEAR = Statement(sa.delete(_NOTES).returning(_NOTES.c.tenant_id))


@pytest.mark.parametrize("relaxed", [False, True])
async def test_a_statement_alone_is_committed_and_gives_what_it_returns(database: Database, relaxed: bool) -> None:
    moment = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    for tenant in ("a", "o'neill\\"):
        [added] = await database.run(tenant, (_ADD, {"of": tenant, "at": moment}), relaxed=relaxed)
        assert [row[0] for row in added] == [tenant]
        async with database.transaction(tenant) as session:
            found = sa.select(_NOTES.c.at).where(_NOTES.c.tenant_id == tenant)
            assert await session.scalar(found) == moment.astimezone(UTC)
        added, cleared = await database.run(tenant, (_ADD, {"of": tenant, "at": None}), (_CLEAR, {}))
        assert (len(added), len(cleared)) == (1, 2), "the second sees what the first did"


async def test_a_statement_alone_that_fails_changes_nothing(database: Database) -> None:
    wrong = Statement(sa.insert(_NOTES).values(tenant_id=sa.null()))
    with pytest.raises(DBAPIError) as raised:
        await database.run("a", (_ADD, {"of": "a", "at": None}), (wrong, {}))
    assert isinstance(raised.value.orig, Exception)
    assert await database.run("a", (_CLEAR, {})) == [[]]


async def test_sqlite_writes_to_its_disk_what_must_outlive_the_machine(sqlite: Database) -> None:
    said: list[str] = []
    sa.event.listen(
        sqlite.engine.sync_engine,
        "checkout",
        lambda raw, *_: raw.driver_connection._conn.set_trace_callback(said.append),
    )
    await sqlite.run("a", (_ADD, {"of": "a", "at": None}), durable=True)
    before = said.index("BEGIN IMMEDIATE")
    assert "PRAGMA synchronous=FULL" in said[:before]
    assert "PRAGMA synchronous=NORMAL" in said[said.index("COMMIT") :]
    said.clear()
    await sqlite.run("a", (_ADD, {"of": "a", "at": None}))
    assert not [statement for statement in said if statement.startswith("PRAGMA")]


async def test_a_sqlite_that_is_locked_is_unavailable_for_a_statement_alone(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_common.db._LOCK_WAIT_SECONDS", 0.05)
    impatient = Database(sqlite.url, schema="test")
    async with sqlite.transaction("a") as session:
        await session.execute(_NOTES.insert().values(tenant_id="a"))
        with pytest.raises(Unavailable):
            await impatient.run("a", (_ADD, {"of": "a", "at": None}))
    await impatient.run("a", (_ADD, {"of": "a", "at": None}))
    await impatient.close()


async def test_a_statement_alone_sees_its_tenant_only(postgres: Database) -> None:
    await postgres.run("a", (_ADD, {"of": "a", "at": None}))
    with pytest.raises(DBAPIError, match="row-level security"):
        await postgres.run("b", (_ADD, {"of": "a", "at": None}))
    assert await postgres.run("b", (_CLEAR, {})) == [[]]
    async with postgres.transaction() as session:
        assert await session.scalar(sa.text("SELECT current_setting('app.tenant_id', true)")) in (None, "")
        assert await session.scalar(sa.text("SHOW synchronous_commit")) == "on"


async def test_a_statement_alone_that_nobody_waits_for_leaves_no_connection_in_the_middle(postgres: Database) -> None:
    slow = Statement(sa.delete(_NOTES).where(sa.func.pg_sleep(60).is_not(None)).returning(_NOTES.c.tenant_id))
    await postgres.run("a", (_ADD, {"of": "a", "at": None}))
    waiting = asyncio.create_task(postgres.run("a", (slow, {})))
    looked = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DELETE%' AND state = 'active'")
    while True:
        async with postgres.transaction() as session:
            if await session.scalar(looked):
                break
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for _ in range(3):
        await postgres.run("a", (_ADD, {"of": "a", "at": None}))


async def test_a_statement_alone_is_unavailable_with_its_database(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_common.db._CONNECT_SECONDS", 0.5)
    away = Database(f"postgresql+asyncpg://u:p@127.0.0.1:{free_port()}/x", schema="test")
    with pytest.raises(Unavailable):
        await away.run("a", (_ADD, {"of": "a", "at": None}))
    await away.close()
    async with postgres.transaction() as session:
        pid = await session.scalar(sa.text("SELECT pg_backend_pid()"))
    engine = sa.create_engine(sa.make_url(postgres.url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    engine.dispose()
    with pytest.raises(Unavailable):
        await postgres.run("a", (_ADD, {"of": "a", "at": None}))
    await postgres.run("a", (_ADD, {"of": "a", "at": None}))


async def test_sqlite_writers_wait_for_each_other(sqlite: Database) -> None:
    async def write() -> None:
        async with sqlite.transaction("a") as session:
            await session.execute(sa.select(_NOTES.c.tenant_id))
            await asyncio.sleep(0.01)
            await session.execute(_NOTES.insert().values(tenant_id="a"))

    await asyncio.gather(*(write() for _ in range(20)))
    async with sqlite.transaction("a") as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(_NOTES)) == 20


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_several_processes_may_migrate_at_once(
    kind: str, tmp_path: Path, package: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/y.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=migrate, args=(url,), kwargs={"package": package, "schema": "test"}) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_id("run") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(id.startswith("run_") and len(id) < 64 for id in ids)


def test_page_tokens_come_back_and_nonsense_is_named() -> None:
    assert decode_page_token(encode_page_token(["2026", "run_1"]), length=2) == ["2026", "run_1"]
    assert decode_page_token("", length=2) is None
    for token in ("nonsense", encode_page_token([1]), "////", "é"):
        with pytest.raises(InvalidArgument) as raised:
            decode_page_token(token, length=2)
        assert raised.value.metadata["field"] == "page_token"


async def test_a_database_that_is_away_or_locked_is_unavailable(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Database(f"postgresql+asyncpg://u:canary@127.0.0.1:{free_port()}/x", schema="test")
    with pytest.raises(Unavailable) as raised:
        await away.ping()
    assert raised.value.dependency == "database"
    assert "canary" not in str(raised.value)
    await away.close()
    monkeypatch.setattr("errand_common.db._LOCK_WAIT_SECONDS", 0.1)
    impatient = Database(sqlite.url, schema="test")
    async with sqlite.transaction("a") as session:
        await session.execute(_NOTES.insert().values(tenant_id="a"))
        with pytest.raises(Unavailable):
            async with impatient.transaction("a") as other:
                await other.execute(sa.select(_NOTES))
    await impatient.close()


async def test_a_database_that_does_not_answer_in_time_is_unavailable(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_common.db._STATEMENT_SECONDS", 0.01)
    impatient = Database(postgres.url, schema="test")
    with pytest.raises(Unavailable):
        async with impatient.transaction() as session:
            await session.execute(sa.text("SELECT pg_sleep(10)"))
    await impatient.close()
    # A listener that never says a word: no connection comes about.
    monkeypatch.setattr("errand_common.db._CONNECT_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        unheard = Database(f"postgresql+asyncpg://u:p@127.0.0.1:{silent.getsockname()[1]}/x", schema="test")
        with pytest.raises(Unavailable):
            await unheard.ping()
        await unheard.close()


async def test_a_connection_that_broke_while_it_rested_is_replaced(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_common.db._IDLE_SECONDS", 0.0)
    async with postgres.transaction() as session:
        pid = await session.scalar(sa.text("SELECT pg_backend_pid()"))
    engine = sa.create_engine(sa.make_url(postgres.url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    engine.dispose()
    async with postgres.transaction() as session:
        assert await session.scalar(sa.text("SELECT pg_backend_pid()")) != pid


async def test_a_wrong_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.transaction("a") as session:
            await session.execute(sa.text("SELECT * FROM nowhere"))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_code_that_was_rolled_back_leaves_a_newer_database_alone(
    kind: str, tmp_path: Path, package: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/n.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    later = tmp_path / package / "versions" / "0002_later.py"
    later.write_text(_MIGRATION.replace('"0001", None', '"0002", "0001"').replace('"notes"', '"later"'))
    migrate(url, package=package, schema="test")
    later.unlink()
    migrate(url, package=package, schema="test")
    later.write_text(_MIGRATION.replace('"0001", None', '"0002", "0001"').replace('"notes"', '"later"'))
    migrate(url, package=package, schema="test")


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, package: str) -> None:
    versions = tmp_path / package / "versions"
    broken = _MIGRATION.replace('"0001", None', '"0002", "0001"').replace('"notes"', '"others"')
    (versions / "0002_broken.py").write_text(broken + '    raise RuntimeError("power cut")\n')
    url = f"sqlite+aiosqlite:///{tmp_path}/z.db"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="power cut"):
            migrate(url, package=package, schema="test")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/z.db")
    assert "others" not in sa.inspect(engine).get_table_names()
    engine.dispose()


async def test_writers_wait_in_line(tmp_path: Path) -> None:
    """SQLite lets writers poll for its lock, and some of them starve; here they come in order."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'queue.db'}", schema="queue")
    entered: list[int] = []

    async def write(number: int) -> None:
        async with database.transaction("t") as session:
            entered.append(number)
            await session.execute(sa.text("SELECT 1"))

    await asyncio.gather(*(write(number) for number in range(30)))
    await database.close()
    assert entered == list(range(30))
