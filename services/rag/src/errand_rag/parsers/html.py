"""HTML: the text a reader sees, by heading."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ParsedDocument
from errand_rag.parsers.detection import HTML
from errand_rag.parsers.outline import Outline

_UNSEEN = (
    "script,style,noscript,template,iframe,object,embed,svg,canvas,head,nav,footer,form,[hidden],[aria-hidden=true]"
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "hr",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "thead",
        "tr",
        "ul",
    ]
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


def parse(text: str) -> ParsedDocument:
    """Scripts, styles, navigation and hidden parts are dropped."""
    tree = LexborHTMLParser(text)
    named = tree.css_first("title")
    title = " ".join(named.text().split()) if named else ""
    # Decomposed one by one: a node inside another unseen one may be gone already.
    for node in tree.css(_UNSEEN):
        node.decompose()
    outline = Outline()
    if tree.body is None:
        raise DocumentRejected("the HTML has no body")
    _walk(tree.body, outline)
    return ParsedDocument(media_type=HTML, sections=tuple(outline.sections), title=title or outline.title)


def _walk(body: LexborNode, outline: Outline) -> None:
    """In document order, without recursion: pages nest deeper than Python's stack."""
    parts: list[str] = []
    stack: list[LexborNode | str] = [body]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            parts.append(item)
        elif item.tag == "-text":
            parts.append(item.text_content or "")
        elif item.tag in _HEADINGS:
            outline.add("".join(parts))
            parts = []
            outline.enter(int(item.tag[1]), " ".join(item.text().split()))
        else:
            stack.extend(reversed(_around(item)))
    outline.add("".join(parts))


def _around(node: LexborNode) -> list["LexborNode | str"]:
    children: list[LexborNode | str] = [child for child in node.iter(include_text=True) if child.tag != "-comment"]
    if node.tag in {"td", "th"}:
        return [*children, " | "]
    if node.tag == "li":
        return ["\n- ", *children, "\n"]
    if node.tag == "p":
        return ["\n\n", *children, "\n\n"]
    return ["\n", *children, "\n"] if node.tag in _BLOCKS else children
