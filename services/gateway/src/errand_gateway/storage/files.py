"""Files of OpenAI's Files API in the database."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from errand_common.db import Database
from errand_common.errors import Conflict, NotFound

from errand_gateway.domain.files import MOST_BYTES, MOST_FILES, StoredFile
from errand_gateway.storage.models import FileLinkRow, FileRow

_COLUMNS = [getattr(FileRow, name) for name in StoredFile.__slots__]


class SqlFileRepository:
    """FileStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, file: StoredFile, content: bytes) -> None:
        """Stores a file; raises Conflict when the tenant keeps as much as it may."""
        kept = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(FileRow.size_bytes), 0)).where(
            FileRow.tenant_id == file.tenant_id
        )
        async with self._database.transaction(file.tenant_id) as session:
            count, size = (await session.execute(kept)).one()
            if count >= MOST_FILES or size + file.size_bytes > MOST_BYTES:
                raise Conflict(
                    f"at most {MOST_FILES} files and {MOST_BYTES} bytes are kept; delete some first", resource="file"
                )
            session.add(FileRow(**{name: getattr(file, name) for name in StoredFile.__slots__}, content=content))

    async def get(self, tenant_id: str, file_id: str) -> StoredFile:
        """One file; raises NotFound."""
        query = sa.select(*_COLUMNS).where(FileRow.id == file_id, FileRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = (await session.execute(query)).first()
        if row is None:
            raise NotFound("file", file_id)
        return StoredFile(*row)

    async def content(self, tenant_id: str, file_id: str) -> bytes:
        """A file's bytes; raises NotFound."""
        query = sa.select(FileRow.content).where(FileRow.id == file_id, FileRow.tenant_id == tenant_id)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            content = await session.scalar(query)
        if content is None:
            raise NotFound("file", file_id)
        return content

    async def list(
        self, tenant_id: str, *, after: str, limit: int, newest_first: bool, purpose: str
    ) -> tuple[Sequence[StoredFile], bool]:
        """Files after an id, and whether there are more."""
        order = FileRow.id.desc() if newest_first else FileRow.id
        query = sa.select(*_COLUMNS).where(FileRow.tenant_id == tenant_id).order_by(order).limit(limit + 1)
        if after:
            query = query.where(FileRow.id < after if newest_first else FileRow.id > after)
        if purpose:
            query = query.where(FileRow.purpose == purpose)
        async with self._database.transaction(tenant_id, read_only=True) as session:
            rows = (await session.execute(query)).all()
        return [StoredFile(*row) for row in rows[:limit]], len(rows) > limit

    async def delete(self, tenant_id: str, file_id: str) -> None:
        """Deletes a file; documents made of it stay. Raises NotFound."""
        statement = (
            sa.delete(FileRow).where(FileRow.id == file_id, FileRow.tenant_id == tenant_id).returning(FileRow.id)
        )
        async with self._database.transaction(tenant_id) as session:
            if await session.scalar(statement) is None:
                raise NotFound("file", file_id)

    async def link(self, tenant_id: str, collection_id: str, file_id: str, document_id: str) -> None:
        """Notes that a file became this document."""
        row = FileLinkRow(tenant_id=tenant_id, collection_id=collection_id, file_id=file_id, document_id=document_id)
        async with self._database.transaction(tenant_id) as session:
            await session.merge(row)

    async def documents_of(self, tenant_id: str, collection_id: str) -> Mapping[str, str]:
        """Document ids by file id, of a collection."""
        query = sa.select(FileLinkRow.file_id, FileLinkRow.document_id).where(
            FileLinkRow.tenant_id == tenant_id, FileLinkRow.collection_id == collection_id
        )
        async with self._database.transaction(tenant_id, read_only=True) as session:
            return {row.file_id: row.document_id for row in await session.execute(query)}

    async def unlink(self, tenant_id: str, collection_id: str, document_id: str | None = None) -> None:
        """Forgets what was noted of a document, or of the whole collection."""
        statement = sa.delete(FileLinkRow).where(
            FileLinkRow.tenant_id == tenant_id,
            FileLinkRow.collection_id == collection_id,
        )
        if document_id is not None:
            statement = statement.where(FileLinkRow.document_id == document_id)
        async with self._database.transaction(tenant_id) as session:
            await session.execute(statement)
