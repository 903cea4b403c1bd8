"""Tool names of any alphabet reach the model spellable, and come back as they were."""

from __future__ import annotations

import re

import pytest
from errand_common.errors import InvalidArgument
from errand_inference.domain.chat import ModelMessage, PromptInput, ToolCall, ToolDeclaration, ToolMessage, UserMessage
from errand_inference.domain.names import NameMap
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=8))
def test_every_name_is_spellable_unique_and_comes_back(names: list[str]) -> None:
    mapped = NameMap.of(names)
    assert len(set(mapped.to_model.values())) == len(names)
    for name in names:
        spelled = mapped.to_model[name]
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", spelled)
        assert mapped.call(ToolCall(spelled)).name == name


def test_names_that_collide_are_numbered() -> None:
    assert NameMap.of(["a.b", "a-b", "a_b"]).to_model == {"a.b": "a_b", "a-b": "a_b_2", "a_b": "a_b_3"}


def test_a_name_declared_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="declared twice"):
        NameMap.of(["a", "a"])


def test_earlier_calls_and_results_are_renamed_too() -> None:
    messages = (UserMessage("x"), ModelMessage(calls=(ToolCall("a.b"),)), ToolMessage("a.b", 1))
    renamed = NameMap.of(["a.b"]).prompt(PromptInput(messages, (ToolDeclaration("a.b", ""),)))
    assert renamed.messages[1:] == (ModelMessage(calls=(ToolCall("a_b"),)), ToolMessage("a_b", 1))
    assert renamed.tools[0].name == "a_b"
