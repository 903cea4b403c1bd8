"""Tenant-scoped rows in memory, with pages."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from errand.common.v1 import common_pb2
from errand_common.db import decode_page_token, encode_page_token
from errand_common.errors import AlreadyExists, NotFound
from errand_common.principal import current_principal

T = TypeVar("T")


class TenantStore(Generic[T]):
    """Rows of one kind by tenant and key; raises what the real services raise."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._rows: dict[tuple[str, str], T] = {}

    def add(self, key: str, row: T) -> T:
        """Stores a new row; raises AlreadyExists."""
        place = (current_principal().tenant_id, key)
        if place in self._rows:
            raise AlreadyExists(self._resource, key)
        self._rows[place] = row
        return row

    def put(self, key: str, row: T) -> T:
        """Stores a row over what is there."""
        self._rows[current_principal().tenant_id, key] = row
        return row

    def get(self, key: str) -> T:
        """The row; raises NotFound."""
        row = self._rows.get((current_principal().tenant_id, key))
        if row is None:
            raise NotFound(self._resource, key)
        return row

    def pop(self, key: str) -> T:
        """Removes the row; raises NotFound."""
        row = self.get(key)
        del self._rows[current_principal().tenant_id, key]
        return row

    def clear(self) -> int:
        """Removes all of the tenant; how many rows there were."""
        mine = [place for place in self._rows if place[0] == current_principal().tenant_id]
        for place in mine:
            del self._rows[place]
        return len(mine)

    def all(self) -> list[T]:
        """The tenant's rows, oldest first."""
        tenant = current_principal().tenant_id
        return [row for (owner, _), row in self._rows.items() if owner == tenant]


def paged(rows: Iterable[T], page: common_pb2.PageRequest) -> tuple[list[T], str]:
    """One page of the rows and the token of the next one."""
    everything = list(rows)
    after = decode_page_token(page.page_token, length=1)
    start = after[0] if after and isinstance(after[0], int) and after[0] >= 0 else 0
    end = start + (page.page_size or 50)
    return everything[start:end], encode_page_token([end]) if end < len(everything) else ""
