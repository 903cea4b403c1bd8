"""Facts that a person's agents know."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# Facts of one person; a query reads them all.
MOST_FACTS = 1000
# Above this two texts say the same.
SAME_SIMILARITY = 0.95


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact. Empty `agent` and `conversation_id` hold for all; `count` tells how often it was told."""

    text: str
    key: str = ""
    agent: str = ""
    conversation_id: str = ""
    message_id: str = ""
    expires_at: datetime | None = None
    id: str = ""
    count: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    embedding: tuple[float, ...] = ()

    @property
    def hash(self) -> str:
        """The same for the same text in the same scope, whatever its case and spaces."""
        words = " ".join(self.text.lower().split())
        scope = (self.key, self.agent, self.conversation_id, words)
        return hashlib.sha256("\0".join(scope).encode()).hexdigest()

    def has_scope_of(self, other: Fact) -> bool:
        """Whether both hold in the same place."""
        return (self.key, self.agent, self.conversation_id) == (other.key, other.agent, other.conversation_id)

    def holds_for(self, agent: str, conversation_id: str) -> bool:
        """Whether this agent knows it in this conversation."""
        return self.agent in ("", agent) and self.conversation_id in ("", conversation_id)


@dataclass(frozen=True, slots=True)
class Match:
    """A fact and how near it is, as a cosine."""

    fact: Fact
    similarity: float


def same(fact: Fact, known: Sequence[Fact]) -> Fact | None:
    """The known fact that says the same in the same scope: by text, else by meaning."""
    by_text = next((other for other in known if other.hash == fact.hash), None)
    if by_text is not None or not fact.embedding:
        return by_text
    scoped = [other for other in known if other.embedding and other.has_scope_of(fact)]
    near = [Match(other, cosine(fact.embedding, other.embedding)) for other in scoped]
    best = max(near, key=lambda match: match.similarity, default=None)
    return best.fact if best is not None and best.similarity >= SAME_SIMILARITY else None


def nearest(query: Sequence[float], facts: Sequence[Fact], top_k: int, min_similarity: float) -> list[Match]:
    """The facts nearest to a query, best first."""
    matches = [Match(fact, cosine(query, fact.embedding)) for fact in facts if fact.embedding]
    near = [match for match in matches if match.similarity >= min_similarity]
    return sorted(near, key=lambda match: -match.similarity)[:top_k]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """-1 to 1; 0 where a vector is nothing."""
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def with_facts(instructions: str, texts: Sequence[str]) -> str:
    """The instructions of an agent that knows these facts."""
    if not texts:
        return instructions
    listed = "\n".join(f"- {' '.join(text.split())}" for text in texts)
    return f"{instructions}\n\nKnown about the user:\n{listed}".strip()
