"""Prompts and replies as FunctionGemma's format has them, by golden files that were written from its documentation.

A case is golden/NAME.json (what is asked, the model's reply, what the reply means) and golden/NAME.txt (the prompt).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from errand_inference.domain.chat import Message, ModelMessage, PromptInput, ToolCall, ToolDeclaration, ToolMessage
from errand_inference.domain.chat import UserMessage as User
from errand_inference.domain.format import render_prefix, render_prompt
from errand_inference.domain.parser import StreamParser, parse_turn

CASES = sorted((Path(__file__).parent / "golden").glob("*.json"))
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)


def read(case: Path) -> tuple[dict[str, Any], str]:
    return json.loads(case.read_text(encoding="utf-8")), case.with_suffix(".txt").read_text(encoding="utf-8")


def calls_of(entries: list[dict[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(entry["name"], entry["arguments"]) for entry in entries)


def message_of(entry: dict[str, Any]) -> Message:
    if "user" in entry:
        return User(entry["user"])
    if "tool" in entry:
        return ToolMessage(entry["tool"], entry["result"])
    return ModelMessage(entry["model"], calls_of(entry["calls"]))


def prompt_of(asked: dict[str, Any]) -> PromptInput:
    tools = tuple(ToolDeclaration(**tool) for tool in asked["tools"])
    return PromptInput(tuple(map(message_of, asked["messages"])), tools, asked.get("instructions", ""))


@each_case
def test_the_prompt_is_the_documented_one(case: Path) -> None:
    asked, expected = read(case)
    assert render_prompt(prompt_of(asked)) == expected


@each_case
def test_what_an_agents_requests_share_is_where_each_begins(case: Path) -> None:
    asked, expected = read(case)
    prompt = prompt_of(asked)
    assert expected.startswith(render_prefix(prompt.instructions, prompt.tools))


@each_case
def test_the_reply_is_read_as_it_is_meant_whole_and_by_the_character(case: Path) -> None:
    asked, _ = read(case)
    whole, parser = parse_turn(asked["reply"]), StreamParser()
    for character in asked["reply"]:
        parser.feed(character)
    assert (whole.text, whole.calls) == (asked["text"], calls_of(asked["calls"]))
    assert parser.finish()[1] == whole
