"""Search results as the model sees them."""

from typing import Any

import pytest
from errand_common.errors import Unavailable
from errand_tools.builtin import Services
from errand_tools.builtin.search_knowledge import TOOL
from errand_tools.domain.ports import Passage
from errand_tools.domain.tools import CallContext, ToolFailed


async def test_results_are_numbered_from_one_and_cut(services: Services, knowledge: Any, context: CallContext) -> None:
    knowledge.passages = [Passage("Handbook", "word " * 500), Passage("FAQ", "short")]
    found = await TOOL.build(services).run({"query": "holiday"}, context)
    assert [result["source"] for result in found["results"]] == [1, 2]
    assert [result["title"] for result in found["results"]] == ["Handbook", "FAQ"]
    assert len(found["results"][0]["text"]) <= 600
    assert found["results"][0]["text"].endswith("word…")
    assert found["results"][1]["text"] == "short"


async def test_the_runs_collections_are_searched(services: Services, knowledge: Any, context: CallContext) -> None:
    await TOOL.build(services).run({"query": "holiday"}, context)
    assert knowledge.asked == [("holiday", ("col_1",), 5)]


async def test_nothing_found_is_an_empty_list(services: Services, context: CallContext) -> None:
    assert await TOOL.build(services).run({"query": "x"}, context) == {"results": []}


async def test_an_empty_query_is_refused(services: Services, context: CallContext) -> None:
    with pytest.raises(ToolFailed, match="empty"):
        await TOOL.build(services).run({"query": "  "}, context)


async def test_a_service_that_is_away_is_told(services: Services, knowledge: Any, context: CallContext) -> None:
    knowledge.error = Unavailable("rag")
    with pytest.raises(Unavailable):
        await TOOL.build(services).run({"query": "x"}, context)
