"""The type of a document, from its content; the file name only tells texts apart."""

import io
import zipfile
from pathlib import PurePosixPath

import puremagic

from errand_rag.domain.errors import DocumentRejected
from errand_rag.parsers.encoding import decode

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
CSV = "text/csv"
JSON = "application/json"

SUPPORTED = "PDF, DOCX, HTML, Markdown, plain text, CSV and JSON"
_BY_SUFFIX = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".csv": CSV,
    ".tsv": CSV,
    ".json": JSON,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
}
_PDF_HEADER_BYTES = 1024
_HTML_STARTS = ("<!doctype html", "<html", "<head", "<body")


def detect(content: bytes, filename: str) -> str:
    """One of the media types above. Raises DocumentRejected for everything else."""
    if not content:
        raise DocumentRejected("the document is empty (0 bytes)")
    if b"%PDF-" in content[:_PDF_HEADER_BYTES]:
        return PDF
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_type(content)
    text = decode(content)
    if text is None:
        raise DocumentRejected(f"the document looks like {_guess(content)}, which cannot be read; upload {SUPPORTED}")
    if text.lstrip().lower().startswith(_HTML_STARTS):
        return HTML
    return _BY_SUFFIX.get(PurePosixPath(filename).suffix.lower(), PLAIN)


def _zip_type(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise DocumentRejected("the document is a damaged ZIP or Office file") from None
    if "word/document.xml" in names:
        return DOCX
    raise DocumentRejected(f"the document is a ZIP archive or another Office format; upload {SUPPORTED}")


def _guess(content: bytes) -> str:
    try:
        return puremagic.from_string(content[:65_536], mime=True) or "binary data"
    except (puremagic.PureError, ValueError):
        return "binary data"
