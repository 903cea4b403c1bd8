"""Search in the tenant's documents."""

from dataclasses import dataclass

from errand_tools.builtin.base import BuiltinTool, Services, one_text
from errand_tools.domain.ports import KnowledgeBase, Runner
from errand_tools.domain.tools import CallContext, JsonObject, ToolFailed

_RESULTS = 5
_TEXT_CHARACTERS = 600
_QUERY_CHARACTERS = 4_096


@dataclass(frozen=True, slots=True)
class _Search:
    knowledge: KnowledgeBase

    async def run(self, arguments: JsonObject, context: CallContext) -> JsonObject:
        query = arguments["query"].strip()[:_QUERY_CHARACTERS]
        if not query:
            raise ToolFailed("The query is empty; say what to look for.")
        passages = await self.knowledge.search(query, context.collection_ids, _RESULTS)
        return {
            "results": [
                {"source": number, "title": passage.title, "text": _shortened(passage.text)}
                for number, passage in enumerate(passages, start=1)
            ]
        }


def _shortened(text: str) -> str:
    if len(text) <= _TEXT_CHARACTERS:
        return text
    return text[: _TEXT_CHARACTERS - 1].rsplit(" ", maxsplit=1)[0] + "…"


def _build(services: Services) -> Runner:
    return _Search(services.knowledge)


TOOL = BuiltinTool(
    name="search_knowledge",
    description="Search the knowledge base: look up documents, manuals, policies and notes.",
    parameters=one_text("query", "What to look for"),
    build=_build,
)
