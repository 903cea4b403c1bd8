"""Stored answers of OpenAI's Responses API in the database."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from errand_common.db import Database, utc_now
from errand_common.errors import NotFound

from errand_gateway.domain.resources import JsonObject
from errand_gateway.domain.responses import StoredResponse
from errand_gateway.storage.models import ResponseRow

KEPT: Final = timedelta(days=30)


class SqlResponseRepository:
    """ResponseStore on the database; answers are kept for 30 days."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, response: StoredResponse) -> None:
        """Stores an answer, and deletes what is too old."""
        row = ResponseRow(**{name: getattr(response, name) for name in StoredResponse.__slots__})
        async with self._database.transaction(response.tenant_id) as session:
            session.add(row)
            await session.execute(
                sa.delete(ResponseRow).where(
                    ResponseRow.tenant_id == response.tenant_id, ResponseRow.created_at <= utc_now() - KEPT
                )
            )

    async def get(self, tenant_id: str, response_id: str) -> StoredResponse:
        """One answer; raises NotFound, also when it is older than the store keeps."""
        query = sa.select(ResponseRow).where(
            ResponseRow.id == response_id,
            ResponseRow.tenant_id == tenant_id,
            ResponseRow.created_at > utc_now() - KEPT,
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.scalar(query)
        if row is None:
            raise NotFound("response", response_id)
        return StoredResponse(**{name: getattr(row, name) for name in StoredResponse.__slots__})

    async def finish(self, tenant_id: str, response_id: str, body: JsonObject) -> None:
        """Replaces the body by the final one."""
        statement = (
            sa.update(ResponseRow)
            .where(ResponseRow.id == response_id, ResponseRow.tenant_id == tenant_id)
            .values(body=body, final=True)
        )
        async with self._database.transaction(tenant_id) as session:
            await session.execute(statement)

    async def delete(self, tenant_id: str, response_id: str) -> None:
        """Deletes an answer; raises NotFound."""
        statement = (
            sa.delete(ResponseRow)
            .where(ResponseRow.id == response_id, ResponseRow.tenant_id == tenant_id)
            .returning(ResponseRow.id)
        )
        async with self._database.transaction(tenant_id) as session:
            if await session.scalar(statement) is None:
                raise NotFound("response", response_id)
