"""Reads what the model wrote: text, and calls in FunctionGemma's format.

A call is `<start_function_call>call:NAME{key:value,…}<end_function_call>`; a value is a string
between escape tokens, a number, true, false, null, an object or an array. Braces, commas and quotes
inside a string are text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from errand_inference.domain.chat import JsonValue, ToolCall
from errand_inference.domain.format import END_CALL, END_TURN, ESCAPE, START_CALL, START_RESPONSE

_NAME = re.compile(r"\w+")
_LITERAL = re.compile(r"true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_KEY = re.compile(r"[^:{}\[\],]+")
_DEEPEST = 32


class MalformedCallError(ValueError):
    """Text between call markers that is no call."""


class _Reader:
    """A cursor over one call's text."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, token: str) -> None:
        if not self.text.startswith(token, self.at):
            raise MalformedCallError(f"expected {token!r} at character {self.at}")
        self.at += len(token)

    def has(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise MalformedCallError(f"unexpected text at character {self.at}")
        self.at = found.end()
        return found.group()

    def value(self, depth: int = 0) -> JsonValue:
        if depth > _DEEPEST:
            raise MalformedCallError("nested too deep")
        if self.has(ESCAPE):
            return self._string()
        if self.has("{"):
            return self.object(depth)
        if self.has("["):
            return self._array(depth)
        literal: JsonValue = json.loads(self.match(_LITERAL))
        return literal

    def _string(self) -> str:
        self.take(ESCAPE)
        end = self.text.find(ESCAPE, self.at)
        if end < 0:
            raise MalformedCallError("a string does not end")
        value = self.text[self.at : end]
        self.at = end + len(ESCAPE)
        return value

    def object(self, depth: int = 0) -> dict[str, JsonValue]:
        self.take("{")
        members: dict[str, JsonValue] = {}
        while not self.has("}"):
            if members:
                self.take(",")
            key = self.match(_KEY)
            self.take(":")
            members[key] = self.value(depth + 1)
        self.take("}")
        return members

    def _array(self, depth: int) -> list[JsonValue]:
        self.take("[")
        items: list[JsonValue] = []
        while not self.has("]"):
            if items:
                self.take(",")
            items.append(self.value(depth + 1))
        self.take("]")
        return items


def parse_call(body: str) -> ToolCall:
    """The call between its markers; raises MalformedCallError."""
    reader = _Reader(body)
    reader.take("call:")
    name = reader.match(_NAME)
    arguments = reader.object()
    if reader.at != len(body):
        raise MalformedCallError("text after the call")
    return ToolCall(name, arguments)


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """A whole model turn. `malformed` counts calls that could not be read."""

    text: str
    calls: tuple[ToolCall, ...]
    malformed: int = 0


@dataclass(slots=True)
class StreamParser:
    """Reads a turn as it is generated: `feed` gives what became certain, `finish` the rest."""

    calls: list[ToolCall] = field(default_factory=list)
    malformed: int = 0
    _pending: str = ""
    _text: list[str] = field(default_factory=list)
    _ended: bool = False

    @property
    def open_call(self) -> str:
        """The call that has begun and not ended, empty when there is none."""
        return self._pending if not self._ended and self._pending.startswith(START_CALL) else ""

    def feed(self, piece: str) -> list[str | ToolCall]:
        """Text deltas and whole calls, in order; may be empty."""
        self._pending += piece
        events: list[str | ToolCall] = []
        if "<" not in self._pending:
            # Most tokens: nothing that could begin a marker.
            self._emit(events, 0 if self._ended else len(self._pending))
            return events
        while not self._ended and self._advance(events):
            pass
        return events

    def _advance(self, events: list[str | ToolCall]) -> bool:
        if self._pending.startswith(START_CALL):
            return self._take_call(events)
        marker, position = self._next_marker()
        if marker is None:
            self._emit(events, len(self._pending) - _begun_marker(self._pending))
            return False
        self._emit(events, position)
        if marker != START_CALL:
            self._ended = True
        return True

    def _next_marker(self) -> tuple[str | None, int]:
        found = [(self._pending.find(marker), marker) for marker in (START_CALL, END_TURN, START_RESPONSE)]
        present = [(position, marker) for position, marker in found if position >= 0]
        position, marker = min(present, default=(-1, None))
        return marker, position

    def _emit(self, events: list[str | ToolCall], length: int) -> None:
        if length:
            text, self._pending = self._pending[:length], self._pending[length:]
            self._text.append(text)
            events.append(text)

    def _take_call(self, events: list[str | ToolCall]) -> bool:
        end = self._pending.find(END_CALL)
        if end < 0:
            return False
        body = self._pending[len(START_CALL) : end]
        self._pending = self._pending[end + len(END_CALL) :]
        self._read_call(body, events)
        return True

    def _read_call(self, body: str, events: list[str | ToolCall]) -> None:
        try:
            call = parse_call(body)
        except (MalformedCallError, ValueError):
            self.malformed += 1
            return
        self.calls.append(call)
        events.append(call)

    def finish(self) -> tuple[list[str | ToolCall], ParsedTurn]:
        """What was still held back, and the whole turn.

        A call that was cut off is malformed; one that lacks only the marker of its end is whole.
        """
        events: list[str | ToolCall] = []
        if call := self.open_call:
            self._read_call(call.removeprefix(START_CALL), events)
        elif not self._ended:
            self._emit(events, len(self._pending))
        return events, ParsedTurn("".join(self._text).strip(), tuple(self.calls), self.malformed)


def _begun_marker(text: str) -> int:
    """Length of the end of `text` that may be the beginning of a marker."""
    longest = max(len(marker) for marker in (START_CALL, END_TURN, START_RESPONSE))
    for length in range(min(longest - 1, len(text)), 0, -1):
        tail = text[-length:]
        if any(marker.startswith(tail) for marker in (START_CALL, END_TURN, START_RESPONSE)):
            return length
    return 0


def parse_turn(text: str) -> ParsedTurn:
    """A whole turn at once."""
    parser = StreamParser()
    parser.feed(text)
    return parser.finish()[1]
