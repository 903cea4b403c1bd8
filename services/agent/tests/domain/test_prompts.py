"""Prompts: refused at save, shared out by conversation, rendered for an agent."""

from collections import Counter

import pytest
from errand_agent.domain.agents import Agent
from errand_agent.domain.prompts import Variant, check_prompt, check_variants, chosen, instructions_of
from errand_common.errors import InvalidArgument


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ agent", "not one"),
        ("{{ secret }}", "'secret' is not known"),
        ("{{ agent.__class__.__mro__ }}", "failed"),
        ("{% if false %}x{% endif %}", "empty text"),
        ("{{ 'x' * 100000000 }}", "not for texts"),
        ("{{ 9 ** 9 }}", "powers"),
        ("{{ '%99999999d' % 1 }}", "not for texts"),
        ("{% for i in range(99999) %}{{ instructions }}{% endfor %}", "at most"),
    ],
)
def test_what_does_not_render_is_refused_at_save(template: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as refused:
        check_prompt(template)
    assert refused.value.metadata["field"] == "prompt.template"


def test_a_prompt_is_rendered_for_its_agent() -> None:
    template = "You are {{ agent }}. {{ instructions }} Today is {{ today }}{% if user == 'ann' %}, Ann{% endif %}."
    text = instructions_of(template, Agent("clerk", instructions="Be short."), today="2026-02-03", user="ann")
    assert text == "You are clerk. Be short. Today is 2026-02-03, Ann."


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ([Variant(1, 60), Variant(2, 60)], "make 120, not 100"),
        ([Variant(1, 50), Variant(1, 50)], "named twice"),
        ([Variant(3, 100)], "no version 3"),
    ],
)
def test_shares_must_make_a_whole(variants: list[Variant], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_variants(variants, newest=2)


def test_conversations_are_shared_out_and_keep_their_version() -> None:
    variants = [Variant(1, 20), Variant(2, 80)]
    ids = [f"conv-{number}" for number in range(2000)]
    first = [chosen(variants, "live", found) for found in ids]
    assert first == [chosen(variants, "live", found) for found in ids]
    assert 300 < Counter(first)[1] < 500
    assert {chosen([Variant(2, 100)], "live", found) for found in ids} == {2}
