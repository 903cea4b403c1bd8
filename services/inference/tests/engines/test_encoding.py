"""Prompts are read in two parts, and no id differs from reading them whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.format import render_prompt
from errand_inference.engines.decoding import IncrementalDecoder
from errand_inference.engines.encoding import PromptTokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


def ids_of(tokenizer: Tokenizer, prompt: str) -> list[int]:
    ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False).ids
    return ids


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_an_agents_prefix_is_remembered_and_changes_no_id(plain: Tokenizer, instructions: str, question: str) -> None:
    reader = PromptTokenizer(plain)
    for text in (question, question + " again"):
        prompt = render_prompt(PromptInput((UserMessage(text),), (ToolDeclaration("t", "A tool."),), instructions))
        assert reader.encode(prompt) == ids_of(plain, prompt)


def test_a_tokenizer_that_treats_the_beginning_specially_reads_whole_prompts(tiny_model: Path) -> None:
    special = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    special.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    reader = PromptTokenizer(special)
    prompt = render_prompt(PromptInput((UserMessage("question"),), (), "instructions"))
    assert [reader.encode(prompt) for _ in range(2)] == [ids_of(special, prompt)] * 2


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 20))
@example("0000000\x800\x80\x80\u0800", 8)
def test_decoding_in_pieces_of_any_size_gives_the_whole_text(plain: Tokenizer, text: str, size: int) -> None:
    ids = ids_of(plain, text)
    decoder = IncrementalDecoder(lambda some: plain.decode(some, skip_special_tokens=False))
    pieces = [decoder.feed(ids[start : start + size]) for start in range(0, len(ids), size)]
    pieces.append(decoder.feed([], last=True))
    assert "".join(pieces) == plain.decode(ids, skip_special_tokens=False)
