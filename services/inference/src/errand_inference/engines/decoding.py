"""Turns token ids into text piece by piece, and finds where it must stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"
# A character has at most four bytes, so at most that many byte tokens can still be waiting for others.
_LONGEST_CHARACTER = 4
# Ids that are decoded again with the next ones. Few, as each costs time; not one, as then twice as much is decoded.
_CONTEXT_IDS = 16


class IncrementalDecoder:
    """Decodes as ids arrive; a character that is not whole yet, or a stop text that has begun, is held back."""

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._context: list[int] = []
        self._context_characters = 0
        self._new: list[int] = []
        self._waited_ids = 0
        self._pending = ""
        self.stopped = False

    def feed(self, ids: Sequence[int], *, last: bool = False) -> str:
        """The text that became certain; after a stop text, nothing more."""
        if self.stopped:
            return ""
        self._new.extend(ids)
        if self._new:
            self._read(len(ids), last=last)
        cut = min((position for stop in self._stop if (position := self._pending.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            return self._pending[:cut]
        certain = len(self._pending) - (0 if last else self._begun_stop())
        piece, self._pending = self._pending[:certain], self._pending[certain:]
        return piece

    def _read(self, count: int, *, last: bool) -> None:
        """Decodes with the ids before, as a token's text may hang on its neighbour's."""
        text = self._decode(self._context + self._new)
        if text.endswith(_UNFINISHED) and not last and self._is_worth_waiting(count):
            return
        self._pending += text[self._context_characters :]
        self._keep_context(len(text))

    def _is_worth_waiting(self, count: int) -> bool:
        self._waited_ids += count if self._waited_ids else 1
        return self._waited_ids < _LONGEST_CHARACTER

    def _keep_context(self, characters: int) -> None:
        self._context += self._new
        self._context_characters = characters
        if len(self._context) > _CONTEXT_IDS:
            self._context = self._new
            self._context_characters = len(self._decode(self._context))
        self._new, self._waited_ids = [], 0

    def _begun_stop(self) -> int:
        """Characters at the end that may begin a stop text."""
        begun = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._pending)), begun, -1):
                if self._pending.endswith(stop[:length]):
                    begun = length
                    break
        return begun
