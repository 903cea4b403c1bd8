"""Results are harmless and short."""

import json
import time

import pytest
from errand_tools.domain.sanitise import MAX_RESULT_BYTES, clean_text, to_result

TOKENS = [
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_function_call>",
    "<end_function_call>",
    "<start_function_response>",
    "<end_function_response>",
    "<start_function_declaration>",
    "<end_function_declaration>",
    "<escape>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unused7>",
    "<start_of_image>",
    "<START_OF_TURN>",
    "<|im_start|>",
]


@pytest.mark.parametrize("token", TOKENS)
def test_control_tokens_do_not_survive(token: str) -> None:
    text, _ = to_result({"body": f"a{token}b", token: [token]})
    assert token.lower() not in text.lower()
    assert token[1:] in text


@pytest.mark.parametrize(
    "hidden",
    [
        "<start_of\x00_turn>",
        "<start_\u200bof_turn>",
        "<\ufeffescape>",
        "<esc\u202eape>",
        "<start_<start_of_turn>of_turn>",
        "<<escape>escape>",
    ],
)
def test_tokens_hidden_by_other_characters_do_not_survive(hidden: str) -> None:
    cleaned = clean_text(hidden)
    assert "<start_of_turn>" not in cleaned
    assert "<escape>" not in cleaned


def test_ordinary_text_stays() -> None:
    text = "a < b, <b>bold</b>, x<y>, líne\nbreak\ttab 👩‍👧"
    assert clean_text(text) == text


def test_nul_and_lone_surrogates_are_removed() -> None:
    text, _ = to_result({"a": "x\x00y\ud800z\x1b[31m"})
    assert json.loads(text) == {"a": "xyz[31m"}
    text.encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ({1, 2}, [1, 2]),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        (b"x", "b'x'"),
        (2**5000, "an integer of 5001 bits"),
        (None, None),
        (True, True),
    ],
)
def test_values_json_does_not_know_become_text(value: object, shown: object) -> None:
    text, truncated = to_result({"result": value})
    assert json.loads(text) == {"result": shown}
    assert not truncated


@pytest.mark.parametrize(
    "flood",
    [
        {"status": 200, "body": "x" * 10_000_000},
        {"result": ["item"] * 1_000_000, "stdout": ""},
        "y" * 10_000_000,
        {str(index): "v" * 50 for index in range(100_000)},
        {"a": 'é"\\\n' * 3_000_000},
        {"a": {"b": {"c": ["z" * 1000] * 10_000}}},
        [[["deep"] * 100] * 100] * 100,
        {"k" * 5_000_000: 1},
    ],
)
def test_floods_are_cut_with_a_note(flood: object) -> None:
    started = time.process_time()
    text, truncated = to_result(flood)
    assert time.process_time() - started < 2
    assert truncated
    assert len(text.encode()) <= MAX_RESULT_BYTES
    assert len(text.encode()) > MAX_RESULT_BYTES // 4
    assert "cut: the result was longer than" in json.loads(text)["note"]


def test_the_shape_survives_a_cut() -> None:
    text, _ = to_result({"status": 200, "body": "x" * 100_000})
    cut = json.loads(text)
    assert cut["status"] == 200
    assert cut["body"].startswith("xxx")


def test_lists_are_cut_between_items() -> None:
    text, _ = to_result({"results": [{"source": i, "text": "t" * 500} for i in range(100)]})
    assert all(item["text"] == "t" * 500 for item in json.loads(text)["results"])


def test_endless_nesting_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "…" in to_result(loop)[0]
