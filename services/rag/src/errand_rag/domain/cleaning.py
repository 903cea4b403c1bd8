"""From parsed sections to the one clean text that offsets point into."""

import re
import unicodedata

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import CleanDocument, ParsedDocument, Section, Span

_SEPARATOR = "\n\n"
_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_SPACES = re.compile(r"[^\S\n]+")
_SPACES_AT_LINE_ENDS = re.compile(r" *\n *")
_BLANK_LINES = re.compile(r"\n{3,}")
_HYPHENATED = re.compile(r"(?<=[a-z])\u00ad?-\n(?=[a-z])")


def clean_text(text: str, *, join_hyphens: bool = False) -> str:
    """NFC, without invisible characters, runs of blanks made one; the words stay as they are."""
    text = _LINE_ENDS.sub("\n", unicodedata.normalize("NFC", text))
    if join_hyphens:
        text = _HYPHENATED.sub("", text)
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE)
    text = _SPACES_AT_LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub(_SEPARATOR, text).strip()


# Control, format, surrogate, private use and unassigned characters are noise to an embedding, and
# hide text from the person who reads a citation.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def clean_document(parsed: ParsedDocument, *, max_characters: int) -> CleanDocument:
    """Joins the cleaned sections. Raises DocumentRejected for no text or too much of it."""
    parts: list[str] = []
    spans: list[Span] = []
    position = 0
    for section in parsed.sections:
        text = clean_text(section.text, join_hyphens=section.page is not None)
        if not text:
            continue
        if parts:
            parts.append(_SEPARATOR)
            position += len(_SEPARATOR)
        if position + len(text) > max_characters:
            raise DocumentRejected(f"the document holds more than {max_characters} characters of text; split it")
        parts.append(text)
        spans.append(_span(section, position, len(text)))
        position += len(text)
    if not parts:
        raise DocumentRejected("the document holds no text; a scan needs text recognition before it is uploaded")
    return CleanDocument(text="".join(parts), spans=tuple(spans))


def _span(section: Section, start: int, length: int) -> Span:
    heading = clean_text(section.heading).replace("\n", " ")[:500]
    return Span(start=start, end=start + length, heading=heading, page=section.page)
