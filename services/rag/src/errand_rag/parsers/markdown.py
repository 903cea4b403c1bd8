"""Markdown: sections by heading, tables and lists as text."""

from markdown_it import MarkdownIt
from markdown_it.token import Token

from errand_rag.domain.models import ParsedDocument, Section
from errand_rag.parsers.detection import MARKDOWN
from errand_rag.parsers.outline import Outline

_ENDS = {
    "th_close": " | ",
    "td_close": " | ",
    "tr_close": "\n",
    "table_close": "\n",
    "paragraph_close": "\n\n",
    "heading_close": "\n\n",
    "bullet_list_close": "\n\n",
    "ordered_list_close": "\n\n",
}


def parse(text: str) -> ParsedDocument:
    """Front matter is dropped; the first heading of the first level is the title."""
    body = _without_front_matter(text)
    lines = body.split("\n")
    outline = Outline()
    start = 0
    for level, heading, first, after in _headings(body):
        outline.add("\n".join(lines[start:first]))
        outline.enter(level, heading)
        start = after
    outline.add("\n".join(lines[start:]))
    sections = tuple(Section(text=_plain(section.text), heading=section.heading) for section in outline.sections)
    return ParsedDocument(media_type=MARKDOWN, sections=sections, title=outline.title)


def _headings(body: str) -> list[tuple[int, str, int, int]]:
    """Level, text, first line and the line after, of each heading that stands outside of blocks."""
    tokens = MarkdownIt("commonmark").parse(body)
    return [
        (int(token.tag[1:]), _inline(tokens[index + 1]), token.map[0], token.map[1])
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]


def _inline(token: Token) -> str:
    kept = ("text", "code_inline", "softbreak")
    return "".join(t.content or " " for t in token.children or () if t.type in kept).strip()


def _plain(text: str) -> str:
    """Without markup that is noise to a search: comments, link targets, images, emphasis marks."""
    renderer = MarkdownIt("commonmark").enable("table")
    parts: list[str] = []
    for token in renderer.parse(text):
        parts.append(_block(token))
    return "".join(parts)


def _block(token: Token) -> str:
    if token.type == "inline":
        return _inline_text(token)
    if token.type in {"fence", "code_block"}:
        return token.content + "\n"
    if token.type == "list_item_open":
        return "- " if token.markup in "-*+" else f"{token.info}{token.markup} "
    if token.type.endswith("_close") and token.hidden:
        return "\n"
    return _ENDS.get(token.type, "")


def _inline_text(token: Token) -> str:
    parts: list[str] = []
    for child in token.children or ():
        if child.type in {"text", "code_inline"}:
            parts.append(child.content)
        elif child.type in {"softbreak", "hardbreak"}:
            parts.append("\n")
        elif child.type == "image":
            parts.append(child.content)
    return "".join(parts)


def _without_front_matter(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.startswith("---\n"):
        end = text.find("\n---\n", 3)
        if end != -1:
            return text[end + 5 :]
    return text
