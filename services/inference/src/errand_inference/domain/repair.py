"""What is tried when a turn came out empty: every turn ends in text or in valid calls.

A small model sometimes begins a string and never ends it, or breaks a rule that no grammar holds. Asked
greedily it would do the same again, so a repair is drawn, and bound so tightly that it must end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from errand_inference.domain.grammar import Limits, ToolChoice

# Calm enough to stay on the subject, warm enough to leave a loop (Holtzman et al. 2020).
_TEMPERATURE = 0.7
_TOP_P = 0.9
# A longer bound makes a grammar that takes seconds to compile, and the whole batch waits for it.
_CHARACTERS = 64
_ITEMS = 8
# Of the tokens allowed, one string of the last attempt may fill this part: there may be several of them.
_LAST_SHARE = 16
_MOST_LAST_CHARACTERS = 48


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try differs from what the caller asked for; the first does not."""

    limits: Limits | None = None
    choice: ToolChoice | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed_step: int = 0


def attempts(choice: ToolChoice, *, wants_json: bool, max_tokens: int) -> Iterator[Attempt]:
    """As asked; then drawn and bounded; then what cannot fail: text, or the shortest call when one must be made."""
    yield Attempt()
    yield Attempt(Limits(_CHARACTERS, _ITEMS, optional=True), None, _TEMPERATURE, _TOP_P, 1)
    if wants_json or choice is ToolChoice.REQUIRED:
        characters = min(_MOST_LAST_CHARACTERS, max(1, max_tokens // _LAST_SHARE))
        yield Attempt(Limits(characters, 1, optional=False), None, _TEMPERATURE, _TOP_P, 2)
    else:
        yield Attempt(None, ToolChoice.NONE, _TEMPERATURE, _TOP_P, 2)
