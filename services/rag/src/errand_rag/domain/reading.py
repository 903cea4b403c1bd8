"""From untrusted bytes to passages, all that is done before embedding."""

from collections.abc import Callable

from errand_rag.domain.chunking import chunk_document
from errand_rag.domain.cleaning import clean_document, clean_text
from errand_rag.domain.models import ParsedDocument, ReadDocument, ReadRequest
from errand_rag.domain.ports import TokenCounter

_MAX_TITLE_CHARACTERS = 300


def read_document(
    content: bytes,
    request: ReadRequest,
    parse: Callable[[bytes, ReadRequest], ParsedDocument],
    counter: TokenCounter,
) -> ReadDocument:
    """Parses, cleans and cuts. Raises DocumentRejected with a reason for a person."""
    parsed = parse(content, request)
    clean = clean_document(parsed, max_characters=request.max_characters)
    chunks = chunk_document(
        request.document_id,
        clean,
        counter,
        chunk_tokens=request.chunk_tokens,
        overlap_tokens=request.chunk_overlap_tokens,
        max_chunks=request.max_chunks,
    )
    title = clean_text(parsed.title).replace("\n", " ")[:_MAX_TITLE_CHARACTERS]
    return ReadDocument(
        title=title or request.filename,
        media_type=parsed.media_type,
        clean_text=clean.text,
        chunks=chunks,
    )
