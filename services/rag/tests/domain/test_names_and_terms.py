"""File names from strangers, words of a query, fusion."""

from itertools import islice

import pytest
from errand_rag.domain.filenames import safe_filename
from errand_rag.domain.fusion import contenders, fuse
from errand_rag.domain.keywords import MAX_TERMS, coverage, query_terms
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\..\\notes.txt", "notes.txt"),
        ("/", "document"),
        ("..", "document"),
        ("a/..", "document"),
        ("evil\u202efdp.exe\x00", "evilfdp.exe"),
        ("   ", "document"),
        ("e\u0301te\u0301.md", "été.md"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_only_a_plain_file_name_is_kept(given: str, kept: str) -> None:
    assert safe_filename(given) == kept


def test_no_operator_of_a_query_language_comes_through() -> None:
    assert query_terms('NEAR(hotel "cost") OR text:* -AND ^price\' & !x | <->') == (
        "near",
        "hotel",
        "cost",
        "text",
        "price",
        "x",
    )


def test_stop_words_are_used_only_when_there_is_nothing_else() -> None:
    assert query_terms("what is the price of it") == ("price",)
    assert query_terms("Who are you?") == ("who", "are", "you")
    assert query_terms("?!") == ()


def test_terms_are_bounded() -> None:
    assert len(query_terms(" ".join(f"word{n}" for n in range(500)))) == MAX_TERMS


def test_agreement_of_both_lists_beats_the_first_place_of_one() -> None:
    scores = fuse(["a", "b", "c"], ["d", "b"])
    assert next(iter(scores)) == "b"
    assert scores["b"] == pytest.approx(1 / 12 + 1 / 12)


def test_a_place_counts_by_its_weight() -> None:
    assert fuse(["a"], ["b"], weights=({}, {"b": 0.25})) == {"a": pytest.approx(1 / 11), "b": pytest.approx(0.25 / 11)}


IDS = st.lists(st.sampled_from("abcdefghijklmnop"), unique=True)


@given(IDS, IDS, st.dictionaries(st.sampled_from("abcdefghijklmnop"), st.floats(0, 1)), st.integers(1, 8))
def test_what_is_no_contender_is_never_among_the_best(
    firm: list[str], weighted: list[str], weights: dict[str, float], limit: int
) -> None:
    whole = fuse(firm, weighted, weights=({}, {id_: weights.get(id_, 1.0) for id_ in weighted}))
    assert set(islice(whole, limit)) <= contenders(firm, weighted, limit)


def test_of_long_lists_few_are_contenders() -> None:
    near, worded = [f"n{place}" for place in range(40)], [f"w{place}" for place in range(40)]
    assert contenders(near, worded, 10) == {*near[:10], *worded[:10]}
    assert contenders(near[:30], [*worded[:30], near[25]], 10) == {*near[:10], *worded[:10], near[25]}


@pytest.mark.parametrize(
    ("query", "text", "share"),
    [
        ("booked hotels", "Booking a hotel early", 1.0),
        ("hotel oslo", "A hotel", 0.5),
        ("E-417", "Code E-471", 0.5),
        ("port", "An import of portfolios", 0.0),
        ("?!", "anything", 0.0),
    ],
)
def test_coverage_is_the_share_of_terms_a_text_holds(query: str, text: str, share: float) -> None:
    assert coverage(query_terms(query), text) == share
