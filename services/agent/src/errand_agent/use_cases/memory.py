"""Keeping, finding and forgetting facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from errand_common.db import Database, utc_now
from errand_common.errors import Conflict, ErrandError, InvalidArgument, NotFound, PermissionDenied
from errand_common.principal import current_principal
from errand_common.telemetry.metrics import counter

from errand_agent.domain.memory import MOST_FACTS, Fact, Match, nearest, same
from errand_agent.domain.ports import Model
from errand_agent.storage.facts import FactRepository
from errand_agent.use_cases.access import page_size, visible_owner

EXPIRED = counter("facts_expired_total", "Facts forgotten because their time was over")
ERASED = counter("facts_erased_total", "Facts forgotten because a person said so")
_TOP_K = 5


class MemoryUseCases:
    """Facts of the calling person."""

    def __init__(self, database: Database, model: Model) -> None:
        self._database, self._model = database, model

    async def insert(self, fact: Fact) -> tuple[Fact, bool]:
        """The fact as it is kept, and whether it was known. Raises InvalidArgument, Conflict."""
        now = utc_now()
        if not fact.text.strip():
            raise InvalidArgument("fact.text: say something.", field="fact.text")
        if fact.expires_at is not None and fact.expires_at <= now:
            raise InvalidArgument("fact.expires_at: name a moment to come.", field="fact.expires_at")
        principal = current_principal()
        fact = replace(fact, embedding=tuple(await self._embedded(fact.text)))
        async with self._database.transaction(principal.tenant_id) as session:
            facts = FactRepository(session)
            EXPIRED.inc(await facts.forget_expired(principal.tenant_id, principal.id, now))
            known = await facts.of(principal.tenant_id, principal.id, now)
            if (found := same(fact, known)) is not None:
                return await facts.told_again(found.id, fact.expires_at, now), True
            if len(known) >= MOST_FACTS:
                raise Conflict(f"There are {MOST_FACTS} facts already; delete some.", resource="fact", id="")
            return await facts.add(principal.tenant_id, principal.id, fact, now), False

    async def _embedded(self, text: str) -> Sequence[float]:
        """Nothing when embeddings are away: the fact is then found by its text and key alone."""
        try:
            [vector] = await self._model.embed([text])
        except ErrandError:
            return ()
        return vector

    async def query(
        self, *, text: str, key: str, agent: str, conversation_id: str, top_k: int, min_similarity: float
    ) -> list[Match]:
        """Facts by key, or nearest to a text. Raises InvalidArgument, and what embedding raises."""
        if not text.strip() and not key:
            raise InvalidArgument("query: give a query or a key.", field="query")
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            known = await FactRepository(session).of(principal.tenant_id, principal.id, utc_now())
        held = [fact for fact in known if fact.holds_for(agent, conversation_id) and key in ("", fact.key)]
        if not text.strip():
            return [Match(fact, 1.0) for fact in held[: top_k or _TOP_K]]
        if not held:
            return []
        [vector] = await self._model.embed([text])
        return nearest(vector, held, top_k or _TOP_K, min_similarity)

    async def page(self, size: int, token: str) -> tuple[Sequence[Fact], str]:
        """All of the caller's, newest first."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            return await FactRepository(session).page(
                principal.tenant_id, principal.id, page_size(size), token, utc_now()
            )

    async def delete(self, fact_id: str) -> None:
        """Raises NotFound."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            if not await FactRepository(session).delete(principal.tenant_id, principal.id, fact_id):
                raise NotFound("fact", fact_id)
        ERASED.inc()

    async def erase(self, principal_id: str) -> int:
        """How many were forgotten. Raises PermissionDenied for another person's, unless an admin asks."""
        principal = current_principal()
        person = principal_id or principal.id
        if visible_owner(principal) not in (None, person):
            raise PermissionDenied("principal_id: only an admin may erase another person's facts.")
        async with self._database.transaction(principal.tenant_id) as session:
            erased = await FactRepository(session).erase(principal.tenant_id, person)
        ERASED.inc(erased)
        return erased
