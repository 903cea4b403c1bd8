"""Personal data in what people say: found by its form, and masked or refused before it is stored."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from errand_common.errors import InvalidArgument

from errand_gateway.domain.resources import JsonObject
from errand_gateway.domain.responses import ResponseStore, StoredResponse


class PersonalDataPolicy(StrEnum):
    """What happens to personal data in messages."""

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
        spans = [match.span() for match in form.pattern.finditer(text) if form.holds(match[0])]
        for start, end in reversed(spans):
            text = text[:start] + form.mask + text[end:]
        if spans:
            found.append(form.name)
    return text, found


def masked_json(value: Any) -> Any:
    """The same value with personal data in its texts masked."""
    if isinstance(value, str):
        return masked(value)[0]
    if isinstance(value, list):
        return [masked_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: masked_json(item) for name, item in value.items()}
    return value


def screened(text: str, policy: PersonalDataPolicy, *, field: str) -> str:
    """What an agent may be told; raises InvalidArgument, which names what must be left out, if that is the policy."""
    if policy is PersonalDataPolicy.OFF:
        return text
    safe, found = masked(text)
    if found and policy is PersonalDataPolicy.BLOCK:
        raise InvalidArgument(f"holds personal data ({', '.join(found)}); leave it out", field=field)
    return safe


class MaskedResponses:
    """A store of answers in which no personal data lie."""

    def __init__(self, inner: ResponseStore) -> None:
        self._inner = inner

    async def add(self, response: StoredResponse) -> None:
        """Stores an answer, and deletes what is too old."""
        said: dict[str, Any] = {name: masked_json(getattr(response, name)) for name in ("body", "items", "history")}
        await self._inner.add(replace(response, **said))

    async def get(self, tenant_id: str, response_id: str) -> StoredResponse:
        """One answer; raises NotFound, also when it is older than the store keeps."""
        return await self._inner.get(tenant_id, response_id)

    async def finish(self, tenant_id: str, response_id: str, body: JsonObject) -> None:
        """Replaces the body by the final one."""
        await self._inner.finish(tenant_id, response_id, masked_json(body))

    async def delete(self, tenant_id: str, response_id: str) -> None:
        """Deletes an answer; raises NotFound."""
        await self._inner.delete(tenant_id, response_id)
