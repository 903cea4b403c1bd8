"""One parser a media type."""

from collections.abc import Callable

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ParsedDocument, ReadRequest
from errand_rag.parsers import detection, docx, html, markdown, pdf, plain
from errand_rag.parsers.encoding import decode

_TEXTS: dict[str, Callable[[str], ParsedDocument]] = {
    detection.HTML: html.parse,
    detection.MARKDOWN: markdown.parse,
    detection.PLAIN: plain.parse_plain,
    detection.CSV: plain.parse_csv,
    detection.JSON: plain.parse_json,
}


def parse_document(content: bytes, request: ReadRequest) -> ParsedDocument:
    """Detects the type and parses. Raises DocumentRejected with a reason for a person."""
    media_type = detection.detect(content, request.filename)
    if media_type == detection.PDF:
        return pdf.parse(content, max_pages=request.max_pages)
    if media_type == detection.DOCX:
        return docx.parse(content)
    text = decode(content)
    if text is None:
        raise DocumentRejected("the document's characters cannot be read")
    return _TEXTS[media_type](text)
