"""Prompts that are written in a registry outside: copied, followed, and kept while it is away."""

from collections.abc import Mapping

from errand_agent.domain.prompts import Registered, Variant
from errand_agent.storage.models import TimerRow
from errand_agent.storage.prompts import PromptRepository
from errand_agent.storage.timers import Timer
from errand_agent.use_cases.prompt_copies import KIND, PromptCopies
from errand_common.db import Database, utc_now
from errand_common.errors import Unavailable
from sqlalchemy import select

TENANT = "acme"


class Registry:
    """Has what a test says, or is away."""

    def __init__(self) -> None:
        self.prompts: dict[str, Registered] = {}
        self.is_away = False

    async def find(self, tenant_id: str, name: str) -> Registered | None:
        if self.is_away:
            raise Unavailable("mlflow")
        return self.prompts.get(f"{tenant_id}.{name}")

    def write(self, templates: Mapping[int, str], **aliases: int) -> None:
        self.prompts[f"{TENANT}.tone"] = Registered(max(templates), templates, aliases)


async def _kept(database: Database) -> tuple[list[str], Mapping[str, list[Variant]]]:
    """The templates of all versions, and the aliases."""
    async with database.transaction(TENANT, read_only=True) as session:
        prompts = PromptRepository(session, TENANT)
        _, last = await prompts.newest("tone")
        versions = [await prompts.version("tone", number) for number in range(1, last + 1)]
        aliases = {alias: list(variants) for alias, variants in (await prompts.aliases("tone")).items()}
    return [version.template for version in versions if version is not None], aliases


async def _renew(copies: PromptCopies) -> bool:
    """Whether it is followed on."""
    return await copies.renew(Timer(KIND, TENANT, "tone", utc_now())) is not None


async def test_a_prompt_that_an_agent_names_is_copied_and_followed(database: Database) -> None:
    registry = Registry()
    copies = PromptCopies(database, registry)
    registry.write({3: "Be kind.", 2: "Be short."}, live=2)
    await copies.follow(TENANT, "tone@live")
    assert await _kept(database) == (["Be short.", "Be kind."], {"live": [Variant(1, 100)]})
    async with database.transaction() as session:
        [timer] = await session.scalars(select(TimerRow))
        assert (timer.kind, timer.tenant, timer.thing) == (KIND, TENANT, "tone")
    registry.write({4: "Be exact."}, live=4)
    assert await _renew(copies)
    assert await _renew(copies), "nothing is copied twice"
    assert await _kept(database) == (["Be short.", "Be kind.", "Be exact."], {"live": [Variant(3, 100)]})


async def test_the_copy_stands_while_the_registry_is_away(database: Database) -> None:
    registry = Registry()
    copies = PromptCopies(database, registry)
    registry.write({1: "Be kind."})
    await copies.follow(TENANT, "tone")
    registry.is_away = True
    await copies.follow(TENANT, "tone")
    assert (await _kept(database))[0] == ["Be kind."]


async def test_a_template_that_fails_is_not_copied(database: Database) -> None:
    registry = Registry()
    copies = PromptCopies(database, registry)
    registry.write({1: "Be kind, {{ user }}.", 2: "{{ nobody_knows }}"}, live=1, broken=2)
    await copies.follow(TENANT, "tone")
    assert await _kept(database) == (["Be kind, {{ user }}."], {"live": [Variant(1, 100)]})


async def test_what_is_gone_here_or_there_is_not_followed(database: Database) -> None:
    registry = Registry()
    copies = PromptCopies(database, registry)
    registry.write({1: "Be kind."})
    assert not await _renew(copies), "nobody named it, or its tenant was erased"
    assert await _kept(database) == ([], {})
    await copies.follow(TENANT, "tone")
    registry.prompts.clear()
    assert not await _renew(copies)
    assert (await _kept(database))[0] == ["Be kind."], "runs that name it go on"
