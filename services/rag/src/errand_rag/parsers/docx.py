"""DOCX: paragraphs and tables in their order, by heading."""

import io
import re
import zipfile

import docx
from docx.document import Document as DocxDocument
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ParsedDocument
from errand_rag.parsers.detection import DOCX
from errand_rag.parsers.outline import Outline

_MAX_UNPACKED_BYTES = 200 * 1024 * 1024
_MAX_MEMBERS = 5000
_MAX_RATIO = 200
_SMALL_BYTES = 1024 * 1024
_HEADING_STYLE = re.compile(r"(?:Heading|heading) (\d)$")


def parse(content: bytes) -> ParsedDocument:
    """Raises DocumentRejected for bombs and damaged files."""
    _refuse_bombs(content)
    try:
        document = docx.Document(io.BytesIO(content))
        return _read(document)
    except (OpcError, KeyError, ValueError, zipfile.BadZipFile, SyntaxError) as error:
        # lxml's XMLSyntaxError is a SyntaxError.
        raise DocumentRejected("the DOCX is damaged and cannot be read") from error


def _refuse_bombs(content: bytes) -> None:
    """Judges by the sizes that the archive declares; reading is held to them by zipfile."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise DocumentRejected("the DOCX is damaged and cannot be read") from None
    unpacked = sum(member.file_size for member in members)
    tight = any(
        member.file_size > _SMALL_BYTES and member.file_size > _MAX_RATIO * max(1, member.compress_size)
        for member in members
    )
    if tight or unpacked > _MAX_UNPACKED_BYTES or len(members) > _MAX_MEMBERS:
        raise DocumentRejected("the DOCX unpacks to far more than it should; it was not opened")


def _read(document: DocxDocument) -> ParsedDocument:
    outline = Outline()
    parts: list[str] = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            parts.append(_table(block))
            continue
        level = _level(block)
        if level is None:
            parts.append(block.text)
            continue
        outline.add("\n\n".join(parts))
        parts = []
        outline.enter(level, " ".join(block.text.split()))
    outline.add("\n\n".join(parts))
    title = document.core_properties.title or outline.title
    return ParsedDocument(media_type=DOCX, sections=tuple(outline.sections), title=title)


def _level(paragraph: Paragraph) -> int | None:
    name = (paragraph.style.name if paragraph.style else None) or ""
    if name == "Title":
        return 1
    found = _HEADING_STYLE.match(name)
    return int(found.group(1)) if found else None


def _table(table: Table) -> str:
    lines = []
    for row in table.rows:
        # A merged cell is listed once for each column it covers.
        texts = {cell._tc: " ".join(cell.text.split()) for cell in row.cells}
        lines.append(" | ".join(texts.values()))
    return "\n".join(lines)
