"""Which of many tools the model is shown."""

from errand_agent.domain.ports import ToolSpec
from errand_agent.domain.shortlist import shortlist
from errand_agent.testing.ports import ScriptedModel
from errand_common.errors import Unavailable

TOOLS = [ToolSpec(name, f"{name} things", "{}") for name in ("weather", "calendar", "mail", "music")]
WORDS = ("weather", "calendar", "mail", "music")


async def test_few_tools_are_all_shown() -> None:
    assert await shortlist(ScriptedModel([]), "anything", TOOLS, 4) == TOOLS


async def test_of_many_the_nearest_are_shown_in_their_order() -> None:
    model = ScriptedModel([], words=WORDS)
    shown = await shortlist(model, "put the music mail into my mail", TOOLS, 2)
    assert [tool.name for tool in shown] == ["mail", "music"]


async def test_without_embeddings_the_first_are_shown() -> None:
    class Away(ScriptedModel):
        async def embed(self, texts: object) -> list[list[float]]:  # type: ignore[override]
            raise Unavailable("inference")

    assert await shortlist(Away([]), "anything", TOOLS, 2) == TOOLS[:2]


async def test_a_request_without_meaning_shows_the_first() -> None:
    assert await shortlist(ScriptedModel([], words=WORDS), "???", TOOLS, 2) == TOOLS[:2]
