"""Chunks fit the window, say where they come from, and lose nothing."""

from itertools import pairwise

import pytest
from errand_rag.domain.chunking import EMBEDDING_WINDOW_TOKENS, chunk_document, embedding_text
from errand_rag.domain.cleaning import clean_document
from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import Chunk, CleanDocument, ParsedDocument, Section
from errand_rag.domain.tokens import default_counter
from hypothesis import given, settings
from hypothesis import strategies as st

COUNTER = default_counter()
PROSE = "Errand keeps runs durable. A crash loses nothing, since each step is stored; what was done is not done again! "


def cut(clean: CleanDocument, *, tokens: int = 64, overlap: int = 0, most: int = 10_000) -> tuple[Chunk, ...]:
    return chunk_document("doc_1", clean, COUNTER, chunk_tokens=tokens, overlap_tokens=overlap, max_chunks=most)


def document(*sections: Section) -> CleanDocument:
    return clean_document(ParsedDocument(media_type="text/plain", sections=sections), max_characters=10**7)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab cde.\n!?,;字é\u0301🎉-#_"), min_size=1, max_size=3000),
    st.integers(32, 256),
    st.integers(0, 64),
)
def test_any_text_is_covered_by_chunks_that_fit(text: str, tokens: int, overlap: int) -> None:
    try:
        clean = document(Section(text=text))
    except DocumentRejected:
        return
    chunks = cut(clean, tokens=tokens, overlap=overlap)
    covered = bytearray(len(clean.text))
    for chunk in chunks:
        assert chunk.text == clean.text[chunk.start : chunk.end]
        assert COUNTER.count(chunk.text) <= min(tokens, EMBEDDING_WINDOW_TOKENS)
        covered[chunk.start : chunk.end] = b"\x01" * (chunk.end - chunk.start)
    assert all(c.isspace() for c, mark in zip(clean.text, covered, strict=True) if not mark)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_sentences_are_kept_whole() -> None:
    chunks = cut(document(Section(text=PROSE * 20)))
    assert len(chunks) > 5
    assert all(chunk.text.endswith((".", "!")) for chunk in chunks)


def test_a_chunk_never_crosses_a_heading_or_a_page() -> None:
    clean = document(
        Section(text="Alpha.", heading="One", page=1),
        Section(text="Beta.", heading="Two", page=1),
        Section(text="Gamma.", heading="Two", page=2),
    )
    assert [(c.text, c.heading, c.page) for c in cut(clean)] == [
        ("Alpha.", "One", 1),
        ("Beta.", "Two", 1),
        ("Gamma.", "Two", 2),
    ]


def test_neighbours_overlap_when_asked() -> None:
    chunks = cut(document(Section(text=PROSE * 20)), overlap=32)
    assert all(after.start < before.end for before, after in pairwise(chunks))


def test_one_endless_word_is_cut() -> None:
    chunks = cut(document(Section(text="x" * 50_000)), tokens=254)
    assert max(len(chunk.text) for chunk in chunks) <= 254 * 100
    assert sum(len(chunk.text) for chunk in chunks) == 50_000


def test_the_same_document_is_cut_the_same_way_again() -> None:
    clean = document(Section(text=PROSE * 20))
    assert cut(clean) == cut(clean)


def test_too_many_chunks_are_refused_with_the_cure() -> None:
    with pytest.raises(DocumentRejected, match="more than 3 chunks; split it"):
        cut(document(Section(text=PROSE * 20)), most=3)


def test_title_and_heading_are_embedded_with_the_passage_while_they_fit() -> None:
    short, long = cut(
        document(Section(text="A night costs 120.", heading="Hotels"), Section(text="word " * 253)), tokens=254
    )
    assert embedding_text(short, "Travel", COUNTER) == "Travel\nHotels\nA night costs 120."
    assert embedding_text(long, "A title of several words", COUNTER) == long.text
