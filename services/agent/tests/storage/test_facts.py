"""Facts on SQLite and Postgres."""

from datetime import timedelta

from errand_agent.domain.memory import Fact
from errand_agent.storage.facts import FactRepository
from errand_common.db import Database, utc_now


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
