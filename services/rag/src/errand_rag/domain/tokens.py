"""Token counts by WordPiece, the tokenizer of the default embedding model."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

# Longer words are one unknown token to WordPiece. Here they count by their length, so that they are
# cut: nobody finds a passage of one endless word.
_MAX_WORD_CHARACTERS = 100
_CHARACTERS_PER_TOKEN = 3
_CACHED_WORDS = 65_536
_CJK = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class WordPieceCounter:
    """Counts the tokens a text becomes; words are counted once and remembered, bounded."""

    def __init__(self, vocabulary: frozenset[str]) -> None:
        self._vocabulary = vocabulary
        self._count_word = lru_cache(maxsize=_CACHED_WORDS)(self._count_uncached)

    def count(self, text: str) -> int:
        """Tokens of the text, the two marks at its ends not counted."""
        count_word, count_uncached = self._count_word, self._count_uncached
        return sum(
            # Overlong words would fill the memory of the cache.
            count_word(word) if len(word) <= _MAX_WORD_CHARACTERS else count_uncached(word)
            for word in text.split()
        )

    def _count_uncached(self, word: str) -> int:
        return sum(self._pieces(part) for part in _parts(word))

    def _pieces(self, part: str) -> int:
        """Longest matches from the left; a part with no match is one unknown token."""
        if len(part) > _MAX_WORD_CHARACTERS:
            return len(part) // _CHARACTERS_PER_TOKEN
        pieces, start = 0, 0
        while start < len(part):
            prefix = "##" if start else ""
            end = len(part)
            while end > start and prefix + part[start:end] not in self._vocabulary:
                end -= 1
            if end == start:
                return 1
            pieces, start = pieces + 1, end
        return pieces


def default_counter() -> WordPieceCounter:
    """The counter of the default embedding model's vocabulary."""
    text = files("errand_rag").joinpath("data/wordpiece_vocabulary.txt").read_text("utf-8")
    return WordPieceCounter(frozenset(text.split("\n")))


def _parts(word: str) -> Iterator[str]:
    """Lower case without accents; punctuation and each CJK character apart."""
    part = ""
    for c in unicodedata.normalize("NFD", word.lower()):
        if unicodedata.category(c) == "Mn":
            continue
        if not _stands_alone(c):
            part += c
            continue
        if part:
            yield part
        yield c
        part = ""
    if part:
        yield part


def _stands_alone(c: str) -> bool:
    code = ord(c)
    if code < 128:
        return not c.isalnum()
    return unicodedata.category(c)[0] == "P" or any(low <= code <= high for low, high in _CJK)
