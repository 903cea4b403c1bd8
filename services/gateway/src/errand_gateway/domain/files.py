"""Files that were sent once and may be put into several collections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

MOST_FILES: Final = 1_000
MOST_BYTES: Final = 1024**3
"""What one tenant may keep."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file without its content."""

    id: str
    tenant_id: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime


class FileStore(Protocol):
    """Where files are kept, and which document of a collection each became."""

    async def add(self, file: StoredFile, content: bytes) -> None:
        """Stores a file; raises Conflict when the tenant keeps as much as it may."""
        ...

    async def get(self, tenant_id: str, file_id: str) -> StoredFile:
        """One file; raises NotFound."""
        ...

    async def content(self, tenant_id: str, file_id: str) -> bytes:
        """A file's bytes; raises NotFound."""
        ...

    async def list(
        self, tenant_id: str, *, after: str, limit: int, newest_first: bool, purpose: str
    ) -> tuple[Sequence[StoredFile], bool]:
        """Files after an id, and whether there are more."""
        ...

    async def delete(self, tenant_id: str, file_id: str) -> None:
        """Deletes a file; documents made of it stay. Raises NotFound."""
        ...

    async def link(self, tenant_id: str, collection_id: str, file_id: str, document_id: str) -> None:
        """Notes that a file became this document."""
        ...

    async def documents_of(self, tenant_id: str, collection_id: str) -> Mapping[str, str]:
        """Document ids by file id, of a collection."""
        ...

    async def unlink(self, tenant_id: str, collection_id: str, document_id: str | None = None) -> None:
        """Forgets what was noted of a document, or of the whole collection."""
        ...
