"""A loop is found soon, and arguments that merely repeat a word are let be."""

from __future__ import annotations

import pytest
from errand_inference.domain.loops import LoopWatch


def found_after(text: str, piece: int = 3) -> int | None:
    watch = LoopWatch()
    for end in range(piece, len(text) + piece, piece):
        if watch.is_looping(text[:end]):
            return end
    return None


@pytest.mark.parametrize("unit", ["a", "ab ", "the same words again, ", "x" * 30 + "y" * 30 + "z"])
def test_a_loop_is_found_soon_after_its_fourth_time(unit: str) -> None:
    found = found_after("Something else before. " + unit * 200)
    assert found is not None
    assert found <= 23 + max(96, 4 * len(unit)) + 20


@pytest.mark.parametrize(
    "text",
    [
        "no no no no, " * 2 + "and that was all of it",
        "-" * 60 + "\n" + "a table\n" + "-" * 60,
        "".join(f"print({number})\n" for number in range(200)),
    ],
)
def test_what_repeats_a_little_is_no_loop(text: str) -> None:
    assert found_after(text) is None


def test_a_shorter_text_is_a_new_one() -> None:
    watch = LoopWatch()
    assert not watch.is_looping("".join(f"{number} " for number in range(500)))
    assert watch.is_looping("b" * 120)
