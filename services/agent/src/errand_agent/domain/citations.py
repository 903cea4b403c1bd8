"""Numbered sources in the prompt, and the citations that come back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from errand_agent.domain.ports import Passage
from errand_agent.domain.runs import Citation

_CITATION = re.compile(r"\s?\[(\d{1,3})\]")


def with_sources(question: str, passages: Sequence[Passage]) -> str:
    """The user's turn as the model was trained to read it; the question alone without passages."""
    if not passages:
        return question
    sources = "\n".join(f"[{number}] {_one_line(p.text)}" for number, p in enumerate(passages, start=1))
    return f"Sources:\n{sources}\n\n{question}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def check_citations(answer: str, sources: Mapping[int, Passage]) -> tuple[str, tuple[Citation, ...], int]:
    """The answer without citations of sources that were not given, those that are left, how many went."""
    cited: dict[int, Citation] = {}
    removed = 0

    def keep(match: re.Match[str]) -> str:
        nonlocal removed
        number = int(match[1])
        if number not in sources:
            removed += 1
            return ""
        cited[number] = _citation(number, sources[number])
        return match[0]

    checked = _CITATION.sub(keep, answer).strip()
    return checked, tuple(cited[number] for number in sorted(cited)), removed


def _citation(number: int, passage: Passage) -> Citation:
    return Citation(
        number,
        passage.chunk_id,
        passage.document_id,
        passage.title,
        passage.text,
        passage.page,
        passage.start_offset,
        passage.end_offset,
    )
