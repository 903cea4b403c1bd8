"""Cuts the clean text into passages that fit the embedding model's window."""

import hashlib
from collections.abc import Sequence
from typing import Any

from semchunk.semchunk import Chunker, chunkerify

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Chunk, CleanDocument
from errand_rag.domain.ports import TokenCounter

# The embedding model reads 256 tokens, two of them the marks at the ends.
EMBEDDING_WINDOW_TOKENS = 254
DEFAULT_CHUNK_TOKENS = 200
MIN_CHUNK_TOKENS = 32


def chunk_document(
    document_id: str,
    clean: CleanDocument,
    counter: TokenCounter,
    *,
    chunk_tokens: int,
    overlap_tokens: int,
    max_chunks: int,
) -> tuple[Chunk, ...]:
    """Cuts each section at its paragraphs, sentences or words, whichever is the largest that fits.

    A chunk never crosses a heading or a page. Ids depend on document, place and text only, so that
    an interrupted ingestion recognises what it stored. Raises DocumentRejected past `max_chunks`.
    """
    size = min(chunk_tokens, EMBEDDING_WINDOW_TOKENS)
    overlap = min(overlap_tokens, size // 2)
    chunker = chunkerify(counter.count, size, memoize=False)
    chunks: list[Chunk] = []
    for span in clean.spans:
        for start, end in _cut(chunker, clean.text[span.start : span.end], overlap):
            text = clean.text[span.start + start : span.start + end]
            if not text.strip():
                continue
            if len(chunks) == max_chunks:
                raise DocumentRejected(
                    f"the document makes more than {max_chunks} chunks; split it, or use a "
                    "collection with larger chunks"
                )
            chunks.append(
                Chunk(
                    id=_chunk_id(document_id, span.start + start, text),
                    index=len(chunks),
                    text=text,
                    start=span.start + start,
                    end=span.start + end,
                    heading=span.heading,
                    page=span.page,
                )
            )
    return tuple(chunks)


def _cut(chunker: Chunker, section: str, overlap: int) -> Sequence[tuple[int, int]]:
    answer: Any = chunker(section, offsets=True, overlap=overlap or None)
    offsets: Sequence[tuple[int, int]] = answer[1]
    return offsets


def embedding_text(chunk: Chunk, title: str, counter: TokenCounter) -> str:
    """The chunk below its title and heading, which carry words the passage itself leaves out.

    They are left off where they would push the passage out of the model's window.
    """
    above = [part for part in dict.fromkeys((title, chunk.heading)) if part]
    text = "\n".join([*above, chunk.text])
    return text if counter.count(text) <= EMBEDDING_WINDOW_TOKENS else chunk.text


def _chunk_id(document_id: str, start: int, text: str) -> str:
    digest = hashlib.sha256(f"{document_id}\n{start}\n{text}".encode()).hexdigest()
    return f"chk_{digest[:32]}"
