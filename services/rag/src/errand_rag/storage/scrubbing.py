"""Overwrites what deleted text left in the database's files."""

import sqlite3

import sqlalchemy as sa
from errand_common.db import Database

# From this version on FTS5 removes deleted words at once; before, only when its segments are merged.
_FTS5_SECURE_DELETE = (3, 42)


class SqlScrubber:
    """On SQLite: merges the keyword index and empties the write-ahead log.

    On Postgres autovacuum does this.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def scrub(self) -> None:
        """Takes as long as rewriting the keyword index does, with writers waiting."""
        if self._database.is_postgres:
            return
        if sqlite3.sqlite_version_info < _FTS5_SECURE_DELETE:
            async with self._database.transaction() as session:
                await session.execute(sa.text("INSERT INTO chunk_words(chunk_words) VALUES('optimize')"))
        async with self._database.engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            # A checkpoint cannot run inside a transaction, so it goes past SQLAlchemy's.
            if raw is not None:
                await (await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")).close()
