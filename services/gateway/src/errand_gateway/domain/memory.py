"""Facts that a person's agents know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from errand_gateway.domain.resources import Page, PageQuery


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact; `count` says how often it was told, an empty `agent` or `conversation_id` that it holds for all."""

    text: str
    key: str = ""
    agent: str = ""
    conversation_id: str = ""
    message_id: str = ""
    expires_at: datetime | None = None
    id: str = ""
    count: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeptFact:
    """A fact as it is kept; `merged` when it was known already."""

    fact: Fact
    merged: bool


@dataclass(frozen=True, slots=True)
class FactQuery:
    """What facts shall be near to, or their key."""

    query: str = ""
    key: str = ""
    agent: str = ""
    conversation_id: str = ""
    top_k: int = 5
    min_similarity: float = 0.0


@dataclass(frozen=True, slots=True)
class FactMatch:
    """A fact and its cosine similarity, -1 to 1; 1 for a match by key."""

    fact: Fact
    similarity: float


class MemoryBackend(Protocol):
    """Memory of the agent service."""

    async def insert_fact(self, fact: Fact) -> KeptFact:
        """Keeps a fact of the caller."""
        ...

    async def query_facts(self, query: FactQuery) -> Sequence[FactMatch]:
        """The caller's facts, best first."""
        ...

    async def list_facts(self, page: PageQuery) -> Page[Fact]:
        """The caller's facts, newest first."""
        ...

    async def delete_fact(self, fact_id: str) -> None:
        """Forgets a fact."""
        ...

    async def erase_facts(self, principal_id: str) -> int:
        """Forgets all facts of a person, of the caller when empty; how many."""
        ...
