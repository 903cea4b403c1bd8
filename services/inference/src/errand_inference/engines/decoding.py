"""Turns token ids into text piece by piece, and finds where it must stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"


class IncrementalDecoder:
    """Decodes as ids arrive; bytes of a character that is not whole yet are held back."""

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._given = 0
        self.stopped = False

    def feed(self, ids: Sequence[int], *, last: bool = False) -> str:
        """The text that became certain; after a stop text, nothing more."""
        if self.stopped:
            return ""
        self._ids.extend(ids)
        text = self._decode(self._ids)
        cut = min((position for stop in self._stop if (position := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            text = text[:cut]
        elif not last:
            text = text[: len(text) - self._held_back(text)]
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece

    def _held_back(self, text: str) -> int:
        """Characters that more ids may change, or that may begin a stop text."""
        broken = len(text) - len(text.rstrip(_UNFINISHED))
        begun = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), 0, -1):
                if stop.startswith(text[-length:]):
                    begun = max(begun, length)
                    break
        return max(broken, begun)
