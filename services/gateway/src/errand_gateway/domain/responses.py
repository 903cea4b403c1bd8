"""Stored answers that later requests go on from."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from errand_gateway.domain.resources import JsonObject


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer with everything that was said before it.

    `items` are the request's own input, `history` what came before them; `body` is the answer as it was
    sent. A run in the background has `run_id`, and a body that is not final yet.
    """

    id: str
    tenant_id: str
    created_at: datetime
    model: str
    run_id: str
    conversation_id: str
    final: bool
    body: JsonObject
    items: list[JsonObject]
    history: list[JsonObject]


class ResponseStore(Protocol):
    """Where answers are kept."""

    async def add(self, response: StoredResponse) -> None:
        """Stores an answer, and deletes what is too old."""
        ...

    async def get(self, tenant_id: str, response_id: str) -> StoredResponse:
        """One answer; raises NotFound, also when it is older than the store keeps."""
        ...

    async def finish(self, tenant_id: str, response_id: str, body: JsonObject) -> None:
        """Replaces the body by the final one."""
        ...

    async def delete(self, tenant_id: str, response_id: str) -> None:
        """Deletes an answer; raises NotFound."""
        ...
