"""The words of a query that a keyword index is asked for."""

import re
from collections.abc import Sequence
from functools import lru_cache

MAX_TERMS = 32
_MIN_STEM_CHARACTERS = 4
_ENDING_CHARACTERS = 3
_REMEMBERED_FORMS = 4096
_WORD = re.compile(r"\w+", re.UNICODE)
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "so",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "us",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


def query_terms(text: str) -> tuple[str, ...]:
    """Distinct words in lower case, stop words left out unless nothing else is there, at most 32.

    Only letters, digits and underscores come through: no operator of a query language does.
    """
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text))
    telling = [word for word in words if word not in _STOP_WORDS]
    return tuple((telling or list(words))[:MAX_TERMS])


def coverage(terms: Sequence[str], text: str) -> float:
    """Share of the terms that a text holds, 0 to 1; other endings of a word count as the word.

    It tells a passage that answers the words of a query from one that shares a common word with it.
    """
    if not terms:
        return 0.0
    lowered = text.lower()
    return sum(_holds(lowered, *_form(term)) for term in terms) / len(terms)


def _holds(text: str, start: str, form: re.Pattern[str]) -> bool:
    # A pattern that begins with a word's edge is tried at every letter: 30 us for a passage, this is one.
    place = text.find(start)
    while place >= 0 and form.match(text, place) is None:
        place = text.find(start, place + 1)
    return place >= 0


@lru_cache(_REMEMBERED_FORMS)
def _form(term: str) -> tuple[str, re.Pattern[str]]:
    """What all forms of a word begin with, and a pattern of them as whole words."""
    # Codes and numbers have no other forms.
    if len(term) < _MIN_STEM_CHARACTERS or not term.isalpha():
        return term, re.compile(rf"\b{re.escape(term)}\b")
    stem = term[: max(_MIN_STEM_CHARACTERS, len(term) - _ENDING_CHARACTERS)]
    endings = len(term) + _ENDING_CHARACTERS - len(stem)
    return stem, re.compile(rf"\b{re.escape(stem)}\w{{0,{endings}}}\b")
