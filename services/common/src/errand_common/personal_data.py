"""Personal data in texts, found by its form: a shape, and a check digit where there is one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class PersonalDataPolicy(StrEnum):
    """What happens to personal data that is found."""

    OFF = "off"
    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class _Form:
    """One kind of personal data: how it looks, and whether a match really is it."""

    name: str
    mask: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True

    def masked(self, match: re.Match[str]) -> str:
        """The mask, or what only looked like it."""
        return self.mask if self.holds(match[0]) else match[0]


def _is_card(text: str) -> bool:
    """Whether the digits have a payment card's check digit (ISO/IEC 7812)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(sum(divmod(digit, 10)) for digit in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the account number has its check digits (ISO 13616)."""
    plain = text.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    return 9 <= sum(character.isdigit() for character in text) <= 15


# Repetitions are bounded and do not overlap, so that no text makes the search slow.
_FORMS: Final = (
    _Form(
        "e-mail address",
        "[EMAIL]",
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", re.ASCII),
    ),
    _Form(
        "bank account",
        "[IBAN]",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _is_iban,
    ),
    _Form("payment card", "[CARD]", re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w])"), _is_card),
    _Form(
        "social security number",
        "[SSN]",
        re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    ),
    _Form(
        "phone number",
        "[PHONE]",
        re.compile(r"(?<![\w.])(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,4}\)?){2,7}(?![\w])"),
        _is_phone,
    ),
)


def masked(text: str) -> tuple[str, list[str]]:
    """The text with personal data masked, and the names of what was found."""
    found = []
    for form in _FORMS:
        safe = form.pattern.sub(form.masked, text)
        if safe != text:
            found.append(form.name)
        text = safe
    return text, found
