"""Which tools the model is shown when an agent has more than it takes well: those nearest to the request."""

from __future__ import annotations

from collections.abc import Sequence

from errand_common.errors import ErrandError

from errand_agent.domain.memory import cosine
from errand_agent.domain.ports import Model, ToolSpec

# What the embedding model reads of a request or a description.
_LONGEST_TEXT = 1024


async def shortlist(model: Model, request: str, tools: Sequence[ToolSpec], limit: int) -> list[ToolSpec]:
    """At most so many tools, in their order; the first ones when nothing can be embedded."""
    if len(tools) <= limit:
        return list(tools)
    described = [f"{tool.name.replace('_', ' ')}: {tool.description}"[:_LONGEST_TEXT] for tool in tools]
    try:
        asked, *vectors = await model.embed([request[:_LONGEST_TEXT], *described])
    except ErrandError:
        return list(tools[:limit])
    nearest = sorted(range(len(tools)), key=lambda index: -cosine(asked, vectors[index]))[:limit]
    return [tools[index] for index in sorted(nearest)]
