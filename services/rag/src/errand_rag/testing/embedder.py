"""An embedder without a model."""

import hashlib
import math
import re
from collections.abc import Sequence

from errand_rag.domain.models import Embeddings

_WORD = re.compile(r"\w+")
MODEL = "hashing-bag-of-words"


class HashingEmbedder:
    """Bag-of-words vectors: each word adds to one place found by its hash; unit length.

    Texts that share words are near. `fault`, when set, is raised by the next calls; `calls` and
    `texts` count what was embedded.
    """

    def __init__(self, dimensions: int = 384, *, model: str = MODEL) -> None:
        self._dimensions = dimensions
        self.model = model
        self.fault: Exception | None = None
        self.calls = 0
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        """Raises `fault`; ignores which model is asked for."""
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        self.texts.extend(texts)
        return Embeddings(vectors=tuple(self.vector(text) for text in texts), model=self.model)

    def vector(self, text: str) -> tuple[float, ...]:
        """The text's unit vector; a text without words points at the first place."""
        values = [0.0] * self._dimensions
        for word in _WORD.findall(text.lower()):
            digest = hashlib.sha256(word.encode()).digest()
            values[int.from_bytes(digest[:4], "big") % self._dimensions] += 1.0
        if not any(values):
            values[0] = 1.0
        length = math.sqrt(sum(value * value for value in values))
        return tuple(value / length for value in values)
