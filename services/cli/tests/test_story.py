"""A run's story says what a person asks about it."""

from typing import Any

import pytest
from errand_cli.story import told
from rich.console import Console

RUN: dict[str, Any] = {
    "id": "run_1",
    "conversation_id": "conv_1",
    "agent": "default",
    "state": "ended",
    "stop_reason": "answer",
    "message": "Convert [3] miles",
    "answer": "It is 4.8 km [1].",
    "steps": [
        {"index": 1, "kind": "think", "summary": "decided to call convert_units", "tool_name": None, "arguments": None,
         "result": None, "duration_ms": 798.5,
         "usage": {"prompt_tokens": 601, "completion_tokens": 29, "cached_tokens": 7}},
        {"index": 2, "kind": "act", "summary": "calls convert_units", "tool_name": "convert_units",
         "arguments": {"value": 3}, "result": None, "duration_ms": 0.0, "usage": None},
        {"index": 3, "kind": "observe", "summary": "convert_units answered", "tool_name": "convert_units",
         "arguments": None, "result": {"text": "x" * 5_000}, "duration_ms": 12.0, "usage": None},
    ],
    "citations": [{"number": 1, "title": "Lengths", "page": 4}],
    "usage": {"prompt_tokens": 1256, "completion_tokens": 45, "cached_tokens": 576},
    "created_at": "2026-11-21T08:00:50.000000Z",
    "ended_at": "2026-11-21T08:00:51.250000Z",
}  # fmt: skip


def _text(run: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=None, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(told(run), highlight=False)
    return capture.get()


def test_every_part_is_told() -> None:
    text = _text(RUN)
    for wanted in (
        "> Convert [3] miles",
        "took 1.25 s",
        "decided to call convert_units  798 ms  601+29 tokens (7 cached)",
        'convert_units({"value": 3})',
        "It is 4.8 km [1].",
        "[1] Lengths, page 4",
        "1256 tokens read, 45 written. It ended because it answered.",
    ):
        assert wanted in text


def test_a_long_result_is_cut_and_says_so() -> None:
    assert "… (5012 characters)" in _text(RUN).replace("\n", "")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"state": "running", "stop_reason": None, "answer": "", "ended_at": None}, "It has not ended"),
        ({"stop_reason": "max_steps"}, "it had used all its steps"),
        ({"stop_reason": "something_new"}, "something_new"),
    ],
)
def test_it_says_why_it_ended(change: dict[str, Any], wanted: str) -> None:
    assert wanted in _text(RUN | change)
