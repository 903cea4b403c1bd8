"""Turns prompts into token ids; what the requests of one agent share is read once."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from tokenizers import Tokenizer

from errand_inference.domain.format import BOS, END_TURN, START_TURN, STOP_TOKENS

# Together at most 16 MB.
_PREFIXES_KEPT = 256
_LONGEST_PREFIX_CHARACTERS = 32_768
# A longer prompt is read in a thread: it would hold up every other request for milliseconds.
_LONG_CHARACTERS = 20_000
_PROBE = f"{BOS}{START_TURN}developer\n The text before{END_TURN}", f"\n{START_TURN}user\n and the text after"


class PromptTokenizer:
    """A tokenizer that remembers the ids of a prompt's first turn, instructions and tools. May be used by threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._prefixes: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = threading.Lock()
        # A control token parts the text before it is read, but a tokenizer may treat a text's begin specially.
        before, after = _PROBE
        self._may_split = self._read(before) + self._read(after) == self._read(before + after)

    def id_of(self, token: str) -> int | None:
        """The id of a control token, None when the vocabulary has none."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a turn; raises RuntimeError when the vocabulary has none."""
        known = (self.id_of(token) for token in STOP_TOKENS)
        found = tuple(token_id for token_id in known if token_id is not None)
        if not found:
            raise RuntimeError(f"the tokenizer knows none of {', '.join(STOP_TOKENS)}")
        return found

    async def ids(self, prompt: str) -> list[int]:
        """Like `encode`, without holding up the event loop."""
        if len(prompt) > _LONG_CHARACTERS:
            return await asyncio.to_thread(self.encode, prompt)
        return self.encode(prompt)

    def encode(self, prompt: str) -> list[int]:
        """The prompt's ids; control tokens in it are read as such."""
        end = prompt.find(END_TURN) + len(END_TURN)
        if not self._may_split or not len(END_TURN) <= end <= _LONGEST_PREFIX_CHARACTERS:
            return self._read(prompt)
        return [*self._prefix(prompt[:end]), *self._read(prompt[end:])]

    def _prefix(self, text: str) -> array[int]:
        with self._lock:
            if (known := self._prefixes.get(text)) is not None:
                self._prefixes.move_to_end(text)
                return known
        ids = array("I", self._read(text))
        with self._lock:
            self._prefixes[text] = ids
            if len(self._prefixes) > _PREFIXES_KEPT:
                self._prefixes.popitem(last=False)
        return ids

    def _read(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def opening(self, text: str, most: int) -> list[int]:
        """At most so many ids that `text` surely begins with, whatever follows it: its last token may go on."""
        ids = self._read(text)[:-1][: max(0, most)] if self._may_split else []
        while ids and not text.startswith(self.decode(ids)):
            ids.pop()
        return ids

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        """The text of ids, control tokens spelled."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text
