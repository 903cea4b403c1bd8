"""A cross-encoder without a model."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


class WordReranker:
    """Scores a text by the share of the query's words that it ends with, so that its order is its own.

    `fault`, when set, is raised; `asked` keeps the texts of each call.
    """

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked: list[list[str]] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Raises `fault`."""
        if self.fault is not None:
            raise self.fault
        self.asked.append(list(texts))
        words = set(_WORD.findall(query.lower()))
        return [len(words & set(_WORD.findall(text.lower())[-len(words) :])) / len(words) for text in texts]
