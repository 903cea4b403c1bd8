"""Runs as examples that a model may learn from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from errand_common.redaction import MASK, redacted

from errand_agent.domain.agents import Agent
from errand_agent.domain.runs import Step, StepKind

# Numbers that name a person: phones, cards, accounts. Short numbers and amounts stay.
_NUMBERS = re.compile(
    r"\b[A-Z]{2}\d{2}(?:\s?[A-Z0-9]{4}){3,7}\s?[A-Z0-9]{0,3}\b"  # IBAN
    r"|\b\d(?:[ -]?\d){12,18}\b"  # cards
    r"|(?<!\w)\+\d[\d\s()/-]{7,}\d"  # phones with a country's code
    r"|\b0\d{2,4}[\s/-]\d{3,}(?:[\s-]\d{2,})*\b"  # phones without
    r"|\b\d{3}-\d{2}-\d{4}\b"  # social security
)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person said of the answer."""

    helpful: bool
    correction: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredRun:
    """What an example is made of."""

    run_id: str
    agent: Agent
    message: str
    answer: str
    steps: Sequence[Step]
    feedback: Feedback | None = None

    @property
    def has_calls(self) -> bool:
        """Whether it called a tool."""
        return any(step.kind is StepKind.ACT for step in self.steps)

    @property
    def is_approved(self) -> bool:
        """Whether somebody found it helpful, or said what is right."""
        return self.feedback is not None and (self.feedback.helpful or bool(self.feedback.correction))


@dataclass(frozen=True, slots=True)
class Dataset:
    """What an export held: the digest of its lines, 36 characters at most, how many there are, and what was asked."""

    name: str
    digest: str
    examples: int
    filter: Mapping[str, str | int | bool]


class DigestedLines:
    """Counts lines and digests them in their order."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def add(self, line: str) -> str:
        """The same line."""
        self.count += 1
        self._digest.update(line.encode() + b"\n")
        return line

    @property
    def digest(self) -> str:
        """Of all lines so far: 32 hex digits."""
        return self._digest.hexdigest()[:32]


def scrubbed(text: str) -> str:
    """The text with secrets, e-mail addresses and numbers that name a person masked."""
    return _NUMBERS.sub(MASK, str(redacted("text", text)))


def _scrubbed_json(text: str) -> str:
    """A JSON text whose values are scrubbed; it stays JSON, also where a number was masked."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, str):
            return scrubbed(value)
        return MASK if isinstance(value, int) and scrubbed(str(value)) == MASK else value

    try:
        return json.dumps(walk(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return scrubbed(text)


def line_of(run: AnsweredRun) -> str:
    """The example as one line of JSON, in chat format, scrubbed."""
    system = [_said("system", run.agent.instructions)] if run.agent.instructions else []
    corrected = run.feedback.correction if run.feedback else ""
    answer = _said("assistant", corrected or run.answer)
    example = {
        "messages": [*system, _said("user", run.message), *_calls(run.steps), answer],
        "tools": sorted({step.tool_name for step in run.steps if step.tool_name}),
        "feedback": {"helpful": run.feedback.helpful, "corrected": bool(corrected)} if run.feedback else None,
        "run_id": run.run_id,
        "agent": run.agent.name,
        "model": run.agent.model,
    }
    return json.dumps(example, ensure_ascii=False)


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": scrubbed(text)}


def _calls(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Calls made at once are one message; their results follow in order."""
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    count = 0
    for step in steps:
        if step.kind is StepKind.ACT:
            count += 1
            call = {
                "id": f"call_{count}",
                "type": "function",
                "function": {"name": step.tool_name, "arguments": _scrubbed_json(step.arguments_json)},
            }
            if not waiting:
                messages.append({"role": "assistant", "content": None, "tool_calls": []})
            waiting.append(str(call["id"]))
            messages[-1]["tool_calls"].append(call)
        elif step.kind is StepKind.OBSERVE and waiting:
            told = {
                "role": "tool",
                "content": _scrubbed_json(step.result_json),
                "name": step.tool_name,
                "tool_call_id": waiting.pop(0),
            }
            messages.append(told)
    return messages
