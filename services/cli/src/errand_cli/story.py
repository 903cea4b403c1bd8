"""A run as a story for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

_LONGEST = 2_000
_STYLES = {"act": "cyan", "observe": "blue", "answer": "bold", "error": "red", "retrieve": "magenta"}
_ENDINGS = {
    "answer": "it answered",
    "max_steps": "it had used all its steps",
    "max_tokens": "it had used all its tokens",
    "deadline": "its time was over",
    "error_threshold": "too many steps failed",
    "cancelled": "it was cancelled",
    "refused": "the model gave no usable answer",
    "unavailable": "the model was away",
    "internal": "of a fault of the service; its log has the error",
    "needs_approval": "a call needs a person's approval",
    "max_cost": "it had reached its cost limit",
    "incompatible": "another version of the service had begun it, whose steps this one cannot read",
}


def told(run: dict[str, Any]) -> RenderableType:
    """Question, steps with their calls, results, tokens and times, answer, sources, and why it ended."""
    return Group(*_parts(run))


def _parts(run: dict[str, Any]) -> Iterator[Text]:
    yield Text(f"{run['id']}  {run['agent']}  {run['state']}", style="bold")
    if began := run.get("created_at"):
        yield Text(f"began {began}{_lasted(run)}  conversation {run['conversation_id']}", style="dim")
    yield Text(f"\n> {run['message']}\n")
    for step in run["steps"]:
        yield from _step(step)
    if run.get("answer"):
        yield Text(f"\n{run['answer']}")
    for citation in run.get("citations", []):
        page = f", page {citation['page']}" if citation.get("page") else ""
        yield Text(f"[{citation['number']}] {citation['title']}{page}", style="dim")
    yield Text("\n" + _end(run), style="dim")


def _step(step: dict[str, Any]) -> Iterator[Text]:
    usage = step.get("usage") or {}
    tokens = f"  {usage['prompt_tokens']}+{usage['completion_tokens']} tokens" if usage.get("prompt_tokens") else ""
    cached = f" ({usage['cached_tokens']} cached)" if tokens and usage.get("cached_tokens") else ""
    took = f"  {step['duration_ms']:.0f} ms" if step.get("duration_ms") else ""
    line = Text(f"{step['index']:>3}  ")
    line.append(f"{step['kind']:<9}", style=_STYLES.get(step["kind"], ""))
    line.append(step["summary"] if step["kind"] != "answer" else "the answer below")
    line.append(f"{took}{tokens}{cached}", style="dim")
    yield line
    if step.get("arguments") is not None:
        yield Text(f"       {step['tool_name']}({_short(step['arguments'])})", style="cyan")
    if step.get("result") is not None:
        yield Text(f"       = {_short(step['result'])}", style="blue")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _lasted(run: dict[str, Any]) -> str:
    if not run.get("ended_at"):
        return ""
    seconds = (datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["created_at"])).total_seconds()
    return f", took {seconds:.2f} s"


def _end(run: dict[str, Any]) -> str:
    usage = run.get("usage") or {}
    spent = f"{usage.get('prompt_tokens', 0)} tokens read, {usage.get('completion_tokens', 0)} written"
    if run["state"] != "ended":
        return f"{spent}. It has not ended; `errand run show {run['id']}` shows more later."
    reason = run.get("stop_reason") or ""
    return f"{spent}. It ended because {_ENDINGS.get(reason, reason or 'of an unknown reason')}."
