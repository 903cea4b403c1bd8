"""What a grammar forces at the beginning, and the grammar of what follows: together they admit the same turns."""

from __future__ import annotations

from typing import Any

import pytest
from errand_inference.domain.chat import ToolDeclaration
from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.grammar import (
    Choice,
    Grammar,
    Marker,
    Repeat,
    Rule,
    Series,
    Text,
    ToolChoice,
    build_grammar,
    build_json_grammar,
)
from errand_inference.domain.opening import after, opening

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
UNIT = {"type": "object", "properties": {"unit": {"enum": ["mile", "metre"]}}, "required": ["unit"]}


def tool(name: str, schema: dict[str, Any] | None = None) -> ToolDeclaration:
    return ToolDeclaration(name, "", schema or {})


def must(*tools: ToolDeclaration) -> Grammar:
    return build_grammar(tools, choice=ToolChoice.REQUIRED)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (must(tool("weather"), tool("web_search")), "<start_function_call>call:we"),
        (must(tool("weather", CITY)), "<start_function_call>call:weather{city:"),
        (must(tool("convert", UNIT)), "<start_function_call>call:convert{unit:<escape>m"),
        (must(tool("now")), "<start_function_call>call:now{}<end_function_call>"),
        (build_grammar([tool("now")]), ""),
        (build_grammar([]), ""),
        (build_json_grammar(CITY), '{"city":'),
        (build_json_grammar({"const": "a"}), '"a"'),
        (build_json_grammar({"enum": [1, 2]}), ""),
    ],
)
def test_a_turn_begins_with_what_the_grammar_leaves_no_choice_about(grammar: Grammar, text: str) -> None:
    assert opening(grammar).text == text


@pytest.mark.parametrize(
    ("root", "text", "rest"),
    [
        (Choice((Text("abc"), Text("abd"))), "ab", '("c" | "d")'),
        (Choice((Text("abc"), Text("abd"))), "a", '"b" ("c" | "d")'),
        (Choice((Text("ab"), Series((Text("a"), Rule("digit"))))), "a", '("b" | digit)'),
        (Repeat(Text("a"), 2, 3), "a", '("a"){1,2}'),
        (Repeat(Text("a"), 1, None), "a", '("a"){0,}'),
        (Series((Marker("<escape>"), Text("x"), Rule("digit"))), "<escape>", '"x" digit'),
        (Series((Rule("twice"), Rule("digit"))), "t", '"t" digit'),
    ],
)
def test_what_follows_is_what_is_left(root: Any, text: str, rest: str) -> None:
    follows = after(Grammar({"root": root, "twice": Text("tt")}), text)
    assert follows is not None
    assert to_ebnf(follows).splitlines()[0] == f"root ::= {rest}"


@pytest.mark.parametrize("text", ["b", "ab", "<esc", "<escape>x"])
def test_nothing_follows_what_is_no_opening(text: str) -> None:
    assert after(Grammar({"root": Series((Marker("<escape>"), Rule("digit")))}), text) is None


def test_a_schema_that_must_hold_itself_has_an_opening_that_ends() -> None:
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert opening(build_json_grammar(endless)).text.startswith('{"next":')
