"""The embedding model as it is served, beside the original in torch."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errand_common.errors import ModelUnavailable
from errand_inference.embeddings import WINDOW_TOKENS, MiniLmEmbedder
from errand_inference.model_store import minilm_folder, minilm_source
from numpy.typing import NDArray

CORPUS = Path(__file__).parents[3] / "services/rag/src/errand_rag/evaluation/corpus"
# Where the set-up converted the model; elsewhere that takes minutes on a busy machine.
CACHE = Path(os.environ.get("ERRAND_INFERENCE_CACHE_DIR", ".cache/errand"))
pytestmark = pytest.mark.timeout(480)


@pytest.fixture(scope="module")
def embedder() -> Iterator[MiniLmEmbedder]:
    made = MiniLmEmbedder(minilm_folder(CACHE, "int8"), threads=1)
    yield made
    made.close()


def passages(most: int) -> list[str]:
    """Paragraphs of the labelled corpus."""
    texts = (file.read_text(encoding="utf-8") for file in sorted(CORPUS.glob("*.md")))
    paragraphs = [part for text in texts for part in text.split("\n\n") if len(part) > 100]
    return paragraphs[:: len(paragraphs) // most][:most]


def original(texts: list[str]) -> NDArray[np.float32]:
    """Vectors of the published weights in fp32."""
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - as above

    folder = str(minilm_source())
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(
        texts, padding=True, truncation=True, max_length=WINDOW_TOKENS, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    vectors: NDArray[np.float32] = torch.nn.functional.normalize((hidden * mask).sum(1), dim=1).numpy()
    return vectors


async def test_vectors_in_int8_mean_what_the_original_ones_do(embedder: MiniLmEmbedder) -> None:
    texts = passages(40)
    wanted = original(texts)
    made, tokens = await embedder.embed(texts)
    assert made.shape == (len(texts), embedder.dimensions)
    assert tokens > 10 * len(texts)
    assert np.sum(made * wanted, axis=1).min() > 0.99
    # Passages of both may be searched together: each one's nearest is the other model's of the same text.
    assert list(np.argmax(made @ wanted.T, axis=1)) == list(range(len(texts)))


async def test_a_text_has_one_vector_whatever_it_is_read_with(embedder: MiniLmEmbedder) -> None:
    text = "How is a hotel booked?"
    (alone,), _ = await embedder.embed([text])
    among, _ = await embedder.embed([*passages(20), text, "short"])
    assert among[20] @ alone > 0.9999


async def test_a_query_has_its_turn_among_many_passages(embedder: MiniLmEmbedder) -> None:
    book = asyncio.create_task(embedder.embed(passages(64)))
    await asyncio.sleep(0)
    await embedder.embed(["How is a hotel booked?"])
    assert not book.done()
    vectors, _ = await book
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


async def test_no_texts_have_no_vectors(embedder: MiniLmEmbedder) -> None:
    vectors, tokens = await embedder.embed([])
    assert (vectors.shape, tokens) == ((0, embedder.dimensions), 0)


FIRST_USE = """
import asyncio, pathlib, sys
from errand_inference.embeddings import MiniLmEmbedder
from errand_inference.model_store import minilm_folder

# Threads meet where they would in one process of thirty.
sys.setswitchinterval(1e-6)
embedder = MiniLmEmbedder(minilm_folder(pathlib.Path(sys.argv[1]), "int8"), threads=1)
asyncio.run(embedder.embed(["a text"] * 16))
embedder.close()
"""


@pytest.mark.parametrize("process", range(4))
def test_the_first_texts_of_a_process_may_be_read_two_at_a_time(process: int) -> None:
    # In a process of its own: one that hangs holds the interpreter's lock.
    done = subprocess.run([sys.executable, "-c", FIRST_USE, str(CACHE)], timeout=120, check=False)
    assert done.returncode == 0


def test_a_folder_without_the_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=str(tmp_path)):
        MiniLmEmbedder(tmp_path)
