"""Quality of search with the real embedding model: floors that a change may not fall below."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from errand_common.testing.keys import TestKeys
from errand_inference.embeddings import MODEL_NAME, MiniLmEmbedder
from errand_inference.model_store import minilm_folder
from errand_rag.domain.models import Embeddings, SearchMode
from errand_rag.evaluation.labelled import load
from errand_rag.evaluation.scoring import table
from errand_rag.evaluation.session import evaluate
from errand_rag.settings import RagSettings
from errand_rag.testing.service import serving_rag

CACHE = Path(os.environ.get("ERRAND_INFERENCE_CACHE_DIR", ".cache/errand"))


class RealEmbedder:
    """The embedding model that is served by default, in this process."""

    def __init__(self) -> None:
        self._model = MiniLmEmbedder(minilm_folder(CACHE, "int8"), threads=2)

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        vectors, _ = await self._model.embed(texts)
        return Embeddings(vectors=tuple(tuple(map(float, vector)) for vector in vectors), model=MODEL_NAME)

    def close(self) -> None:
        self._model.close()


async def test_hybrid_beats_both_of_its_sides_and_finds_nine_of_ten(settings: RagSettings, keys: TestKeys) -> None:
    embedder = RealEmbedder()
    async with serving_rag(settings, keys, embedder=embedder) as client:
        scores = await evaluate(client, load())
    embedder.close()
    print(table(scores))
    hybrid, vector, keyword = (
        scores[mode]["all"] for mode in (SearchMode.HYBRID, SearchMode.VECTOR, SearchMode.KEYWORD)
    )
    assert hybrid.ndcg_at_10 > vector.ndcg_at_10
    assert hybrid.ndcg_at_10 > keyword.ndcg_at_10
    assert hybrid.recall_at_10 >= 0.9


# Embedding the labelled set takes minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
