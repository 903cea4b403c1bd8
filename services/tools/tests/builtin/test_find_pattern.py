"""Regular expressions that cannot run away."""

import pytest
from errand_tools.builtin.find_pattern import find
from errand_tools.domain.tools import ToolFailed


def test_finds_texts_places_and_groups() -> None:
    found = find(r"(\w+)@(\w+)\.org", "ann@a.org, bob@b.org")
    assert found == {
        "matches": [
            {"text": "ann@a.org", "start": 0, "groups": ["ann", "a"]},
            {"text": "bob@b.org", "start": 11, "groups": ["bob", "b"]},
        ]
    }


@pytest.mark.parametrize(
    ("pattern", "text", "texts"),
    [
        ("x", "abc", []),
        ("(?i)ABC", "abc", ["abc"]),
        ("é+", "caféé", ["éé"]),
        ("(a)|(b)", "b", ["b"]),
        ("", "ab", ["", "", ""]),
    ],
)
def test_finds(pattern: str, text: str, texts: list[str]) -> None:
    assert [match["text"] for match in find(pattern, text)["matches"]] == texts


def test_only_the_first_are_told() -> None:
    found = find("a", "a" * 1_000)
    assert (len(found["matches"]), found["note"]) == (100, "only the first 100 matches")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a|a?)+$", "(.*a){20}$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_patterns_that_explode_elsewhere_end_here(pattern: str) -> None:
    assert isinstance(find(pattern, "a" * 20_000 + "!")["matches"], list)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(", ""),
        ("a{1001}", "a"),
        (r"(?=a)", "a"),
        (r"(a)\1", "aa"),
        ("x" * 1_001, ""),
        ("a", "a" * 200_001),
        ("((a{100}){100}){100}", "a"),
    ],
)
def test_refuses(pattern: str, text: str) -> None:
    with pytest.raises(ToolFailed) as refused:
        find(pattern, text)
    assert refused.value.message.endswith(".")
