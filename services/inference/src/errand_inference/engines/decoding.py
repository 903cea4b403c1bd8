"""Turns token ids into text piece by piece, and finds where it must stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from errand_inference.domain.engine import Delta, Finish, TokenLogprob
from errand_inference.engines.encoding import PromptTokenizer

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
        self._pending = ""
        self.stopped = False

    def feed(self, ids: Sequence[int], *, last: bool = False) -> str:
        """The text that became certain; after a stop text, nothing more."""
        if self.stopped:
            return ""
        self._new.extend(ids)
        if self._new:
            self._read(last=last)
        cut = min((position for stop in self._stop if (position := self._pending.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            return self._pending[:cut]
        certain = len(self._pending) - (0 if last else self._begun_stop())
        piece, self._pending = self._pending[:certain], self._pending[certain:]
        return piece

    def _read(self, *, last: bool) -> None:
        """Decodes with the ids before, as a token's text may hang on its neighbour's."""
        text = self._decode(self._context + self._new)
        whole = len(self._new)
        if text.endswith(_UNFINISHED) and not last:
            text, whole = self._whole(text)
        held = self._new[whole:]
        self._pending += text[self._context_characters :]
        self._keep_context(self._new[:whole], len(text))
        self._new = held

    def _whole(self, text: str) -> tuple[str, int]:
        """The text up to a last character that is not whole, and how many of the new ids make it.

        When leaving out as many ids as a character may still wait with does not help, the bytes are no text.
        """
        for count in range(len(self._new) - 1, max(len(self._new) - _LONGEST_CHARACTER, -1), -1):
            shorter = self._decode(self._context + self._new[:count])
            if not shorter.endswith(_UNFINISHED):
                return shorter, count
        return text, len(self._new)

    def _keep_context(self, ids: list[int], characters: int) -> None:
        self._context += ids
        self._context_characters = characters
        if len(self._context) > _CONTEXT_IDS and ids:
            self._context = ids
            self._context_characters = len(self._decode(ids))

    def _begun_stop(self) -> int:
        """Characters at the end that may begin a stop text."""
        begun = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._pending)), begun, -1):
                if self._pending.endswith(stop[:length]):
                    begun = length
                    break
        return begun


class DeltaReader:
    """Makes the deltas of one generation from its token ids."""

    def __init__(self, tokenizer: PromptTokenizer, stop: Sequence[str], prompt_tokens: int) -> None:
        self._tokenizer, self._prompt_tokens = tokenizer, prompt_tokens
        self._stop_ids = tokenizer.stop_ids()
        self._decoder = IncrementalDecoder(tokenizer.decode, stop)

    def delta(
        self, ids: Sequence[int], finish: Finish | None, *, cached_tokens: int = 0, logprobs: Sequence[float] = ()
    ) -> Delta:
        """What the next ids say; `finish` is the engine's, unless a stop text comes before it."""
        text = self._decoder.feed([id for id in ids if id not in self._stop_ids], last=finish is not None)
        told = tuple(
            TokenLogprob(self._tokenizer.decode([id]), min(0.0, logprob))
            for id, logprob in zip(ids, logprobs, strict=False)
        )
        finish = Finish.STOP if self._decoder.stopped else finish
        return Delta(text, len(ids), finish, self._prompt_tokens, cached_tokens, told)
