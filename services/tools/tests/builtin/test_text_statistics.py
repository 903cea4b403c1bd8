"""Counts of texts."""

import time

import pytest
from errand_tools.builtin.text_statistics import count


@pytest.mark.parametrize(
    ("text", "characters", "words", "sentences"),
    [
        ("", 0, 0, 0),
        ("   ", 3, 0, 0),
        ("Hello", 5, 1, 1),
        ("Hello world. How are you?", 25, 5, 2),
        ("Mr. Smith went home. He is 3.5 years old!", 41, 9, 2),
        ("e.g. this is one. Two... Three?!", 32, 6, 3),
        ("don't stop-gap it", 17, 3, 1),
        ('He said "Yes." Then he left.', 28, 6, 2),
        ("One\n\nTwo", 8, 2, 1),
        ("你好。再见。", 6, 1, 2),
        ("café naïve", 10, 2, 1),
        ("...", 3, 0, 0),
        ("See https://a.b/c?d=e. Done.", 28, 3, 2),
    ],
)
def test_counts(text: str, characters: int, words: int, sentences: int) -> None:
    counted = count(text)
    assert counted["characters"] == characters
    assert counted["sentences"] == sentences
    assert counted["words"] == words


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a." * 300_000, "." * 500_000, "'" * 500_000])
def test_long_texts_take_linear_time(text: str) -> None:
    started = time.perf_counter()
    count(text)
    assert time.perf_counter() - started < 3
