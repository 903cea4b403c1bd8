"""Takes the edge off a model's text: nothing in it is a control token or begins a script."""

from __future__ import annotations

import re
from dataclasses import dataclass

from errand_inference.domain.format import CONTROL_TOKENS, neutralise

_SCRIPT = re.compile(r"<(?=\s{0,8}/?\s{0,8}script\b)", re.IGNORECASE)
# "<", white space, "/", white space and "script", or the longest control token.
_LONGEST = max(24, *(len(token) for token in CONTROL_TOKENS))


def sanitise(text: str) -> str:
    """Text in which the "<" of control tokens and script tags became the look-alike U+2039."""
    return _SCRIPT.sub("\u2039", neutralise(text))


@dataclass(slots=True)
class TextSanitiser:
    """Sanitises text that comes in pieces; what may be the beginning of a tag is held back."""

    _held: str = ""

    def feed(self, piece: str) -> str:
        """The text that is certain."""
        text = self._held + piece
        begun = text.rfind("<", max(0, len(text) - _LONGEST))
        cut = len(text) if begun < 0 else begun
        self._held = text[cut:]
        return sanitise(text[:cut])

    def finish(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return sanitise(text)
