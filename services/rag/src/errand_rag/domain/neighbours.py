"""The text around a passage."""

from collections.abc import Sequence
from dataclasses import replace

from errand_rag.domain.models import Passage, SearchHit


def with_neighbours(hit: SearchHit, around: Sequence[Passage]) -> SearchHit:
    """The hit with the text of the chunks before and after it; what chunks repeat is given once."""
    mine = hit.passage
    before = [p for p in around if p.document_id == mine.document_id and p.position < mine.position]
    after = [p for p in around if p.document_id == mine.document_id and p.position > mine.position]
    return replace(hit, text_before=_before(before, mine), text_after=_after(after, mine))


def _before(chunks: Sequence[Passage], hit: Passage) -> str:
    parts: list[str] = []
    end = hit.start
    for chunk in sorted(chunks, key=lambda c: -c.position):
        parts.insert(0, chunk.text[: max(0, end - chunk.start)])
        end = min(end, chunk.start)
    return "\n".join(part for part in parts if part.strip())


def _after(chunks: Sequence[Passage], hit: Passage) -> str:
    parts: list[str] = []
    start = hit.end
    for chunk in sorted(chunks, key=lambda c: c.position):
        parts.append(chunk.text[max(0, start - chunk.start) :])
        start = max(start, chunk.end)
    return "\n".join(part for part in parts if part.strip())
