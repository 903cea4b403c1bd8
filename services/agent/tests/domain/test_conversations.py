"""Titles and names."""

import pytest
from errand_agent.domain.agents import Agent, check_name, default_agent
from errand_agent.domain.conversations import title_of
from errand_common.errors import InvalidArgument


@pytest.mark.parametrize(
    ("message", "title"),
    [("Hello there", "Hello there"), ("  first\nsecond", "first"), ("", ""), ("word " * 40, "word " * 15 + "word …")],
)
def test_a_title_is_the_first_line_cut_at_a_word(message: str, title: str) -> None:
    assert title_of(message) == title
    assert len(title_of(message)) <= 82


def test_limits_of_zero_take_the_defaults() -> None:
    limits = Agent("a", max_steps=3).limits
    assert (limits.max_steps, limits.max_tokens, limits.max_seconds, limits.max_errors) == (3, 65_536, 120, 3)
    assert default_agent().is_default


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "ä", "a/b"])
def test_names_that_are_not_allowed_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_name(name)
    assert raised.value.metadata["field"] == "name"
