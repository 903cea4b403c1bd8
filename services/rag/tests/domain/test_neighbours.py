"""The text around a passage."""

from errand_rag.domain.models import Passage, SearchHit
from errand_rag.domain.neighbours import with_neighbours

TEXT = "one two three four five six"


def chunk(position: int, start: int, end: int) -> Passage:
    return Passage(f"c{position}", "doc", "col", "T", "t", None, "", start, end, TEXT[start:end], position=position)


def test_text_that_chunks_repeat_is_given_once() -> None:
    # "two" is in the first two chunks, "four" in the second and third.
    around = [chunk(0, 0, 7), chunk(1, 4, 18), chunk(2, 14, 27)]
    hit = with_neighbours(SearchHit(around[1], 1.0, 1.0), around)
    assert (hit.text_before, hit.text_after) == ("one ", " five six")


def test_nothing_around_gives_nothing() -> None:
    other = Passage("x", "other", "col", "T", "t", None, "", 0, 3, "one", position=0)
    hit = with_neighbours(SearchHit(chunk(1, 4, 18), 1.0, 1.0), [other])
    assert (hit.text_before, hit.text_after) == ("", "")
