"""Draws argument values: every value appears in the request, so that a call can be exact."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from errand_inference.training import words

Draw = Callable[[random.Random], "str | int | float"]


def word(rng: random.Random) -> str:
    """An invented word, so that copying is learned and not a vocabulary."""
    return "".join(rng.choice(words.SYLLABLES) for _ in range(rng.randint(2, 3)))


def person(rng: random.Random) -> str:
    first = rng.choice(words.FIRST_NAMES) if rng.random() < 0.7 else word(rng).capitalize()
    if rng.random() < 0.4:
        return first
    last = rng.choice(words.LAST_NAMES) if rng.random() < 0.7 else word(rng).capitalize()
    return f"{first} {last}"


def city(rng: random.Random) -> str:
    return rng.choice(words.CITIES) if rng.random() < 0.75 else word(rng).capitalize()


def phrase(rng: random.Random) -> str:
    """One to four lower-case words, known or invented."""
    kinds = (words.ADJECTIVES, words.NOUNS, words.NOUNS)
    picked = [rng.choice(rng.choice(kinds)) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.35:
        picked[rng.randrange(len(picked))] = word(rng)
    return " ".join(picked)


def title(rng: random.Random) -> str:
    text = phrase(rng)
    style = rng.random()
    return text.title() if style < 0.4 else text.capitalize() if style < 0.7 else text


def sentence(rng: random.Random) -> str:
    """A short sentence without its full stop, as a message or a note."""
    verb, noun = rng.choice(words.VERBS), rng.choice(words.NOUNS)
    forms = (
        f"{verb} the {rng.choice(words.ADJECTIVES)} {noun}",
        f"please {verb} the {noun} before {rng.choice(words.NOUNS)}",
        f"I will be {rng.randint(5, 60)} minutes late",
        f"the {noun} is {rng.choice(words.ADJECTIVES)}",
        f"{verb} {word(rng)} and the {noun}",
        f"see you at the {noun}",
    )
    text = rng.choice(forms)
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def date(rng: random.Random) -> str:
    return f"20{rng.randint(19, 31)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def time(rng: random.Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.choice((0, 5, 10, 15, 20, 30, 40, 45, 50)):02d}"


def code(rng: random.Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    prefix = "".join(rng.choice(letters) for _ in range(rng.randint(1, 3)))
    digits = "".join(str(rng.randint(0, 9)) for _ in range(rng.randint(2, 6)))
    return rng.choice((f"{prefix}-{digits}", f"{prefix}{digits}", digits + prefix))


def email(rng: random.Random) -> str:
    name = rng.choice(words.FIRST_NAMES).lower() if rng.random() < 0.6 else word(rng)
    if rng.random() < 0.4:
        name += "." + rng.choice(words.LAST_NAMES).lower()
    return f"{name}@{rng.choice(words.DOMAINS_OF_MAIL)}"


def url(rng: random.Random) -> str:
    """Names, addresses, ports and paths."""
    hosts = (
        word(rng) + ".com",
        word(rng) + ".org",
        "example.com",
        "www." + word(rng) + ".io",
        "localhost",
        _address(rng),
    )
    port = f":{rng.randint(80, 65535)}" if rng.random() < 0.3 else ""
    parts = [rng.choice((word(rng), rng.choice(words.NOUNS))) for _ in range(rng.randint(0, 2))]
    scheme = rng.choice(("https", "https", "http"))
    return "/".join([f"{scheme}://{rng.choice(hosts)}{port}", *parts])


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.randint(0, 255)) for _ in range(4))


def small(rng: random.Random) -> int:
    return rng.randint(1, 12)


def count(rng: random.Random) -> int:
    return rng.choice((rng.randint(1, 20), rng.randint(1, 100), rng.randint(10, 5000)))


def amount(rng: random.Random) -> float | int:
    kind = rng.random()
    if kind < 0.4:
        return rng.randint(1, 2000)
    return round(rng.uniform(0.5, 999), 1 if kind < 0.6 else 2)


def phone(rng: random.Random) -> str:
    return f"+{rng.randint(1, 99)}{rng.randint(10**6, 10**9)}"


def language(rng: random.Random) -> str:
    return rng.choice(words.LANGUAGES)


def currency(rng: random.Random) -> str:
    return rng.choice(words.CURRENCIES)


DRAWS: Mapping[str, Draw] = {
    draw.__name__: draw
    for draw in (
        person,
        city,
        phrase,
        title,
        sentence,
        date,
        time,
        code,
        email,
        url,
        small,
        count,
        amount,
        phone,
        language,
        currency,
    )
}
NUMBER_TYPES: Mapping[str, str] = {"small": "integer", "count": "integer", "amount": "number"}


def json_type(draw: str) -> str:
    """The JSON Schema type of what a draw gives."""
    return NUMBER_TYPES.get(draw, "string")
