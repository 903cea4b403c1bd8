"""Counts of a text."""

import re

from errand_tools.builtin.base import BuiltinTool, computed, one_text
from errand_tools.domain.tools import JsonObject

# A word is what stands between spaces and has a letter or digit, as word processors count.
_WORD = re.compile(r"\w")
# An end of a sentence: its mark, closing quotes or brackets, then space or the end. Scripts that
# write no spaces end a sentence with their own full stop.
_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？｡]+[」』”]*)")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|mr|mrs|ms|dr|prof|sr|jr|st|no|vol|fig|approx|inc|ltd|co"
    r"|u\.s|u\.k|a\.m|p\.m|[a-z])\.$",
    re.IGNORECASE,
)


def count(text: str) -> JsonObject:
    """Characters, words and sentences of the text."""
    return {
        "characters": len(text),
        "words": sum(1 for piece in text.split() if _WORD.search(piece)),
        "sentences": _sentences(text),
    }


def _sentences(text: str) -> int:
    found = 0
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.end()]
        rest = text[match.end() : match.end() + 200].strip()
        tail = piece[-12:]
        if rest and _ABBREVIATION.search(tail) and not rest[0].isupper():
            continue
        if rest and re.search(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|e\.g|i\.e|vs)\.$", tail):
            continue
        if _WORD.search(piece):
            found += 1
        start = match.end()
    return found + (1 if _WORD.search(text[start:]) else 0)


def _run(arguments: JsonObject) -> JsonObject:
    return count(arguments["text"])


TOOL = BuiltinTool(
    name="text_statistics",
    description="Count the words, characters and sentences of a text.",
    parameters=one_text("text", "The text"),
    build=computed(_run, inline_characters=1000),
    timeout_ms=5_000,
)
