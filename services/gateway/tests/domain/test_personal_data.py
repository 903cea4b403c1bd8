"""What is found in texts, and what only looks like it."""

import pytest
from errand_common.personal_data import PersonalDataPolicy, masked
from errand_gateway.domain.personal_data import FormMasker, Screening


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ada.lovelace+x@mail.example.co.uk, please.", "Write to [EMAIL], please."),
        ("Card 4111 1111 1111 1111 or 5500-0055-5555-5559.", "Card [CARD] or [CARD]."),
        ("IBAN DE89 3704 0044 0532 0130 00 it is", "IBAN [IBAN] it is"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("SSN 123-45-6789.", "SSN [SSN]."),
        ("Call +49 (0)30 1234567 or +1-202-555-0143!", "Call [PHONE] or [PHONE]!"),
        ("a@b.de and c@d.fr", "[EMAIL] and [EMAIL]"),
    ],
)
def test_personal_data_are_masked(text: str, expected: str) -> None:
    assert masked(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "17% of 2,350 is 399.5 on 2026-11-21 at 10:30",
        "order 4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "GB82WEST12345698765433",
        "version 1.2.3.4, port 8080, 000-12-3456",
        "run_0190c0ffee 1234567890123456789012",
        "me @ home, @ada",
        "pi is 3.14159265358979323846",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert masked(text) == (text, [])


async def test_texts_anywhere_in_json() -> None:
    value = {"a": ["x@y.de", {"b": "z"}], "n": 4111111111111111, "none": None}
    screening = Screening(PersonalDataPolicy.MASK, FormMasker())
    assert await screening.json(value) == {"a": ["[EMAIL]", {"b": "z"}], "n": 4111111111111111, "none": None}


@pytest.mark.parametrize("piece", ["a.", "1 ", "+1", "1-", "A1", "@", "DE89 ", "a@a."])
def test_no_text_makes_the_search_slow(piece: str) -> None:
    masked(piece * (32_768 // len(piece)))
