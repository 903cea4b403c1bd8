"""Finds out that a model repeats itself for ever."""

from __future__ import annotations

from dataclasses import dataclass

# A unit of up to so many characters ...
_LONGEST_UNIT = 64
# ... that fills the end of the output so often, and at least so many characters, is no argument but a loop.
_TIMES = 4
_LEAST_CHARACTERS = 96
# Looking costs some microseconds: not at every token.
_STRIDE_CHARACTERS = 16


@dataclass(slots=True)
class LoopWatch:
    """Looks at the end of a growing text now and then; a shorter text than before is a new one."""

    _looked: int = 0

    def is_looping(self, text: str) -> bool:
        """Whether the end of `text` is one unit again and again."""
        if len(text) < self._looked:
            self._looked = 0
        if len(text) - self._looked < _STRIDE_CHARACTERS:
            return False
        self._looked = len(text)
        return any(_repeats(text, unit) for unit in range(1, _LONGEST_UNIT + 1))


def _repeats(text: str, unit: int) -> bool:
    span = max(_LEAST_CHARACTERS, _TIMES * unit)
    tail = text[-span:]
    return len(tail) == span and tail[unit:] == tail[:-unit]
