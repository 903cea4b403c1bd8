"""Facts on SQLite and Postgres."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from errand_agent.domain.memory import Fact
from errand_agent.storage.facts import FactRepository
from errand_agent.use_cases.memory import MemoryUseCases
from errand_common.db import Database, utc_now
from errand_common.errors import Unavailable
from errand_common.principal import Principal, acting_as
from prometheus_client import REGISTRY


async def test_facts_hold_until_their_time_is_over(database: Database) -> None:
    now = utc_now()
    async with database.transaction("t1") as session:
        facts = FactRepository(session)
        short = Fact("Short.", expires_at=now + timedelta(seconds=5), embedding=(0.5, 1.0))
        kept = await facts.add("t1", "ann", short, now)
        await facts.add("t1", "ann", Fact("Long."), now)
        await facts.add("t1", "bob", Fact("Long."), now)
        assert kept.embedding == (0.5, 1.0)
        assert [fact.text for fact in await facts.of("t1", "ann", now)] == ["Short.", "Long."]
        later = now + timedelta(seconds=6)
        assert [fact.text for fact in await facts.of("t1", "ann", later)] == ["Long."]
        again = await facts.told_again(kept.id, now + timedelta(seconds=60), now)
        assert (again.count, again.expires_at) == (2, now + timedelta(seconds=60))
        assert await facts.forget_expired("t1", "ann", now + timedelta(seconds=61)) == 1
        assert await facts.erase("t1", "ann") == 1
        assert await facts.erase("t1", "ann") == 0
        page, more = await facts.page("t1", "bob", 1, "", now)
        assert ([fact.text for fact in page], more) == (["Long."], "")


class _Away:
    """A model whose embeddings are away: facts are kept without."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        raise Unavailable("inference")


async def test_facts_whose_time_is_over_are_counted_as_they_go(database: Database) -> None:
    person, now = Principal("t-expired", "ann", frozenset({"user"}), frozenset(), "req-1"), utc_now()
    async with database.transaction(person.tenant_id) as session:
        over = Fact("Short.", expires_at=now - timedelta(seconds=1))
        await FactRepository(session).add(person.tenant_id, person.id, over, now - timedelta(days=1))
    before = REGISTRY.get_sample_value("facts_expired_total") or 0.0
    model: Any = _Away()
    with acting_as(person):
        await MemoryUseCases(database, model).insert(Fact("Long."))
    assert REGISTRY.get_sample_value("facts_expired_total") == before + 1
