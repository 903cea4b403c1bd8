"""Databases: one engine for SQLite and Postgres, tenants kept apart, migrations."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from errand_common.errors import InvalidArgument, Unavailable
from errand_common.statements import Work, run_on_postgres, run_on_sqlite

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_TENANT_SETTING = "app.tenant_id"
# Built once: every transaction begins with it.
_SET_TENANT = sa.select(sa.func.set_config(_TENANT_SETTING, sa.bindparam("tenant", type_=sa.String), True))
_RELAXED = "; SET LOCAL synchronous_commit TO off"
_READ_ONLY = "errand_read_only"
_MIGRATION_LOCK = 0x0E44A4D
_MIGRATION_WAIT_SECONDS = 300
_LOCK_WAIT_SECONDS = 5.0
# Who waits for a connection, or for SQLite's one writer, is served in order: hundreds at once all have their turn.
_TURN_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 2.0
_STATEMENT_SECONDS = 60.0
# SQLSTATE classes: connection (08), too many connections (53), shutdown (57P).
_AWAY_STATES = ("08", "53", "57P")
# The host is gone, or the network between.
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH)
_log = structlog.get_logger(__name__)


def declarative_base() -> type[DeclarativeBase]:
    """A base class for one service's models: own metadata, predictable constraint names."""

    class Base(DeclarativeBase):
        metadata = sa.MetaData(naming_convention=_NAMING)

    return Base


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets zones, so it is put back on reading."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuses moments without a zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without time zone")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Gives the zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def utc_now() -> datetime:
    """Now, with its zone."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """An id that sorts by the time it was made: prefix, 48 bits of milliseconds, 80 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}_{milliseconds:012x}{os.urandom(10).hex()}"


def encode_page_token(values: list[Any]) -> str:
    """An opaque token that remembers where a page ended."""
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode()


def decode_page_token(token: str, *, length: int) -> list[Any] | None:
    """What `encode_page_token` was given, None for an empty token; raises InvalidArgument."""
    if not token:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, UnicodeError):
        values = None
    if not isinstance(values, list) or len(values) != length:
        raise InvalidArgument(
            "page_token is not one this listing gave; leave it out to start anew.",
            field="page_token",
        )
    return values


class Database:
    """A connection pool and the way transactions are opened on it."""

    def __init__(self, url: str, *, schema: str) -> None:
        self.url = url
        self.is_postgres = make_url(url).get_backend_name() == "postgresql"
        if self.is_postgres:
            options: dict[str, Any] = {
                "pool_size": 10,
                "max_overflow": 10,
                "pool_timeout": _TURN_SECONDS,
                "connect_args": {
                    "server_settings": {"search_path": schema},
                    "timeout": _CONNECT_SECONDS,
                    "command_timeout": _STATEMENT_SECONDS,
                },
            }
        else:
            options = {"connect_args": {"timeout": _LOCK_WAIT_SECONDS}}
        self.engine = create_async_engine(url, **options)
        if self.is_postgres:
            _ping_idle_connections(self.engine.sync_engine)
        else:
            configure_sqlite(self.engine.sync_engine)
        self._writer = asyncio.Lock()
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        readers = self.engine.execution_options(**{_READ_ONLY: True})
        self._reading_sessions = async_sessionmaker(readers, expire_on_commit=False)

    @contextlib.asynccontextmanager
    async def transaction(
        self, tenant_id: str | None = None, *, read_only: bool = False
    ) -> AsyncIterator[AsyncSession]:
        """One transaction, committed at the end of the block, rolled back on any error.

        One that is `read_only` waits for no writer on SQLite, and must not write.
        On Postgres row-level security then shows only this tenant's rows; with no tenant, none.
        Raises Unavailable when the database is away or busy for too long; all other errors of the
        driver come through as SQLAlchemy's.
        """
        sessions = self._reading_sessions if read_only else self._sessions
        with _unavailable():
            async with self._turn(read_only), sessions() as session, session.begin():
                if self.is_postgres and tenant_id is not None:
                    await session.execute(_SET_TENANT, {"tenant": tenant_id})
                yield session

    async def run(
        self, tenant_id: str, *work: Work, relaxed: bool = False, durable: bool = False
    ) -> list[Sequence[Any]]:
        """Statements in a transaction of their own, and what each returns: half the cost of `transaction`.

        What is `relaxed` does not wait for Postgres's disk: a database that crashes may forget it. SQLite waits for
        its disk for what is `durable` only: the rest may be forgotten by a machine that crashes, not by a process.
        Rows are as the driver gives them: SQLite's have no types but text, numbers and bytes. Raises as
        `transaction` does.
        """
        if not self.is_postgres:
            with _unavailable():
                async with self._turn(read_only=False):
                    return await run_on_sqlite(self.engine, work, durable=durable)
        # In hex there is nothing to quote.
        tenant = f"convert_from(decode('{tenant_id.encode().hex()}', 'hex'), 'UTF8')"
        begin = f"BEGIN; SELECT set_config('{_TENANT_SETTING}', {tenant}, true)"
        with _unavailable():
            return await run_on_postgres(self.engine, begin + (_RELAXED if relaxed else ""), work)

    @contextlib.asynccontextmanager
    async def _turn(self, read_only: bool) -> AsyncIterator[None]:
        """SQLite's writers wait in line here: SQLite itself lets them poll, and some starve for seconds."""
        if self.is_postgres or read_only:
            yield
            return
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._writer.acquire()
        except TimeoutError as error:
            raise Unavailable("database", "The database is busy; try again.") from error
        try:
            yield
        finally:
            self._writer.release()

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer."""
        with _unavailable():
            async with self.engine.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        if not _is_away(error):
            raise
        _log.warning("the database is not available", error=str(error))
        raise Unavailable("database", "The database is not available now; try again.") from error


def _is_away(error: Exception) -> bool:
    """Whether the same call may work later; a wrong statement never will."""
    # asyncpg's own limits of time come through as they are, not as errors of SQLAlchemy.
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | sa.exc.TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in _NO_WAY
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    state = str(getattr(error.orig, "sqlstate", "") or "")
    return (
        error.connection_invalidated
        or state.startswith(_AWAY_STATES)
        or (isinstance(error, sa.exc.OperationalError) and "database is locked" in str(error.orig))
    )


def _ping_idle_connections(engine: sa.Engine) -> None:
    """Looks at a connection that rested before it is used again: the server may have restarted meanwhile.

    SQLAlchemy's own way asks each time, which is three of the six round trips of a small transaction.
    """

    @sa.event.listens_for(engine, "checkin")
    def on_checkin(_connection: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, _proxy: Any) -> None:
        since = record.info.get("rests_since")
        if since is None or time.monotonic() - since < _IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            # The pool then opens another one.
            raise sa.exc.DisconnectionError from error


def configure_sqlite(engine: sa.Engine, *, foreign_keys: bool = True) -> None:
    """WAL, waiting writers and foreign keys on every connection; write locks taken at the beginning.

    A transaction that reads first and writes later would fail with "database is locked" however long
    it may wait, so every transaction that is not read-only asks for the write lock at once.
    """

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(_LOCK_WAIT_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"foreign_keys={int(foreign_keys)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def enable_tenant_isolation(op: Operations, table_name: str) -> None:
    """In a migration: row-level security by tenant_id, on Postgres, for the owner too."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"ALTER TABLE {table_name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table_name} FORCE ROW LEVEL SECURITY")
    matches = f"tenant_id = current_setting('{_TENANT_SETTING}', true)"
    op.execute(f"CREATE POLICY tenant_isolation ON {table_name} USING ({matches}) WITH CHECK ({matches})")


def migrate(url: str, *, package: str, schema: str) -> None:
    """Brings the database to the newest version of the package's migrations, all of them or none.

    A database that a later version of the code has migrated is left as it is.
    May be called by several processes at once: one migrates, the others wait.
    """
    synchronous = make_url(url)
    is_postgres = synchronous.get_backend_name() == "postgresql"
    driver = "postgresql+psycopg" if is_postgres else "sqlite"
    engine = sa.create_engine(synchronous.set(drivername=driver), poolclass=sa.pool.NullPool)
    if not is_postgres:
        # A table that a migration rebuilds is dropped on the way: with foreign keys on, rows elsewhere would go too.
        configure_sqlite(engine, foreign_keys=False)
    try:
        with _migration_lock(engine, is_postgres, schema) as connection:
            _upgrade(connection, package, schema if is_postgres else None)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _migration_lock(engine: sa.Engine, is_postgres: bool, schema: str) -> Iterator[Connection]:
    if is_postgres:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_MIGRATION_WAIT_SECONDS}s'")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            # Asked for first: creating needs a right on the database that a service's role may lack.
            if schema not in sa.inspect(connection).get_schema_names():
                connection.execute(sa.schema.CreateSchema(schema))
            connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"')
            yield connection
        return
    lock_file = Path(f"{engine.url.database}.migrate.lock")
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.begin() as connection:
            yield connection


def _upgrade(connection: Connection, package: str, schema: str | None) -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.files(package)))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    # After a rollback the tables are those of the version that was left; each version works with the next one's.
    known = {step.revision for step in script.walk_revisions()}

    def steps(revision: Any, _context: Any) -> Any:
        if newer := [name for name in revision if name not in known]:
            _log.warning("the database is newer than this code, nothing is migrated", found=newer, known=head)
            return []
        return script._upgrade_revs("head", revision)  # what alembic's own command calls

    with EnvironmentContext(config, script, fn=steps, destination_rev=head) as environment:
        environment.configure(connection=connection, target_metadata=None, version_table_schema=schema)
        with environment.begin_transaction():
            environment.run_migrations()


__all__ = [
    "Database",
    "UtcDateTime",
    "configure_sqlite",
    "declarative_base",
    "decode_page_token",
    "enable_tenant_isolation",
    "encode_page_token",
    "migrate",
    "new_id",
    "utc_now",
]
