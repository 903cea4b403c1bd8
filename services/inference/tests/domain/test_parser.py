"""Any call that is rendered is read back the same, whole or piece by piece; broken ones are no calls."""

from __future__ import annotations

import json

import pytest
from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.domain.format import CONTROL_TOKENS, END_CALL, ESCAPE, START_CALL, neutralise, render_call
from errand_inference.domain.parser import ParsedTurn, StreamParser, parse_turn
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_ .-]{0,10}[a-z]", fullmatch=True)
TEXTS = st.text() | st.sampled_from(["}", "{a:1}", '"', "a,b:c", "]", "\n", "true", "3", "null", "ø天気", "<", "</b>"])
WITH_TOKENS = st.lists(TEXTS | st.sampled_from(CONTROL_TOKENS), max_size=4).map("".join)
NUMBERS = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    WITH_TOKENS | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
CALLS = st.builds(ToolCall, NAMES, st.dictionaries(KEYS, VALUES, max_size=5))


def neutral(value: JsonValue) -> JsonValue:
    """What is left of a value once control tokens in its texts are made harmless."""
    if isinstance(value, str):
        return neutralise(value)
    if isinstance(value, dict):
        return {key: neutral(item) for key, item in value.items()}
    return [neutral(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=80, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=3))
def test_rendered_calls_are_read_back_the_same(calls: list[ToolCall]) -> None:
    parsed = parse_turn("".join(render_call(call) for call in calls))
    assert parsed.malformed == 0
    assert [call.name for call in parsed.calls] == [call.name for call in calls]
    for read, call in zip(parsed.calls, calls, strict=True):
        expected = neutral(dict(call.arguments))
        # As text, since 1, 1.0 and true are equal in Python.
        assert json.dumps(read.arguments, sort_keys=True) == json.dumps(expected, sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_give_the_same_as_the_whole(data: st.DataObject) -> None:
    calls = data.draw(st.lists(CALLS, max_size=2))
    text = neutralise(data.draw(st.text(max_size=30)))
    turn = text + "".join(render_call(call) for call in calls) + "<start_function_response>"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(turn)), max_size=12)))
    pieces = [turn[start:end] for start, end in zip([0, *cuts], [*cuts, len(turn)], strict=True)]
    parser, events = StreamParser(), []
    for piece in pieces:
        events.extend(parser.feed(piece))
    rest, parsed = parser.finish()
    events.extend(rest)
    assert parsed == parse_turn(turn)
    assert "".join(event for event in events if isinstance(event, str)) == text
    assert tuple(event for event in events if isinstance(event, ToolCall)) == parsed.calls


def test_text_is_not_held_back_longer_than_a_marker_may_begin() -> None:
    parser = StreamParser()
    assert parser.feed("I see a <") == ["I see a "]
    assert parser.feed("b> tag") == ["<b> tag"]


@pytest.mark.parametrize(
    "body",
    [
        "call:f{a:1",
        "call:f{a:}",
        "call:f{a:1,}",
        "call:f{a:1}x",
        "call:{a:1}",
        "f{a:1}",
        "call:f{a:01}",
        f"call:f{{a:{ESCAPE}open}}",
        'call:f{a:"quoted"}',
        "call:f{a:" + "[" * 100 + "]" * 100 + "}",
        "",
    ],
)
def test_what_is_no_call_is_counted_and_left_out(body: str) -> None:
    parsed = parse_turn(f"{START_CALL}{body}{END_CALL}after")
    assert (parsed.calls, parsed.malformed, parsed.text) == ((), 1, "after")


def test_a_call_that_lacks_only_the_marker_of_its_end_is_whole() -> None:
    whole = render_call(ToolCall("f", {"a": "}"}))
    assert parse_turn(whole + whole.removesuffix("<end_function_call>")) == parse_turn(whole * 2)


def test_a_call_that_was_cut_off_is_malformed_and_earlier_ones_stay() -> None:
    whole = render_call(ToolCall("f", {"a": 1}))
    assert parse_turn(whole + whole[:-10]) == ParsedTurn("", (ToolCall("f", {"a": 1}),), malformed=1)


def test_nothing_after_the_end_of_the_turn_is_read() -> None:
    assert parse_turn("Hello<end_of_turn>\n<start_of_turn>user\nmore").text == "Hello"
