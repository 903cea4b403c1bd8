"""One model turn: prompt, grammar, queue, engine, parser, validation."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from errand_common.errors import DeadlineExceeded, InvalidArgument

from errand_inference.domain.chat import PromptInput, ToolCall
from errand_inference.domain.dispatch import Dispatcher, Wait
from errand_inference.domain.engine import Delta, EngineRequest, Finish
from errand_inference.domain.format import render_prompt
from errand_inference.domain.grammar import Grammar, ToolChoice, build_grammar, build_json_grammar
from errand_inference.domain.names import NameMap
from errand_inference.domain.parser import StreamParser
from errand_inference.domain.scheduler import Priority
from errand_inference.domain.schemas import is_json_of, parse_schema, problem_with

DEFAULT_MAX_TOKENS = 256
_GRAMMARS_KEPT = 512


class FinishReason(Enum):
    """Why a turn ended."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a caller asks for. `schemas` holds each tool's JSON Schema as text, by name."""

    prompt: PromptInput
    schemas: Mapping[str, str] = field(default_factory=dict)
    choice: ToolChoice = ToolChoice.AUTO
    only_tool: str = ""
    single_call: bool = False
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_schema_json: str = ""
    priority: Priority = Priority.INTERACTIVE
    tenant_id: str = ""
    deadline_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The whole turn. Times are milliseconds since the request came.

    A call whose arguments break the declared schema (what the grammar cannot hold: patterns, bounds) is left
    out and counted in `rejected_calls`, and so is JSON text that breaks the response schema. A turn of
    which nothing is left ends with STOP, no text and no calls: the caller decides whether to ask again.
    """

    text: str
    calls: tuple[ToolCall, ...]
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_ms: float
    first_token_ms: float
    total_ms: float
    rejected_calls: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the turn's text."""

    text: str


class GenerationObserver(Protocol):
    """Is told what happened, for metrics."""

    def grammar_looked_up(self, *, hit: bool) -> None: ...

    def finished(self, result: GenerationResult) -> None: ...


class GrammarCache:
    """Grammars by tool set and choice, the least recently used dropped first."""

    def __init__(self, observer: GenerationObserver) -> None:
        self._grammars: OrderedDict[object, Grammar] = OrderedDict()
        self._observer = observer
        self.hits = self.misses = 0

    def get(self, request: GenerationRequest, prompt: PromptInput, only_tool: str) -> Grammar:
        """The grammar of this request's tools; `prompt` and `only_tool` use the model's names."""
        tools = tuple(tool for tool in prompt.tools if not only_tool or tool.name == only_tool)
        names = tuple(tool.name for tool in tools)
        key = (names, tuple(request.schemas.items()), request.choice, request.single_call)
        return self._cached(key, lambda: build_grammar(tools, choice=request.choice, single_call=request.single_call))

    def json(self, schema_json: str) -> Grammar:
        """The grammar of JSON of this schema."""
        return self._cached(
            schema_json, lambda: build_json_grammar(parse_schema(schema_json, field="response_schema_json"))
        )

    def _cached(self, key: object, build: Callable[[], Grammar]) -> Grammar:
        found = self._grammars.get(key)
        self._observer.grammar_looked_up(hit=found is not None)
        if found is not None:
            self.hits += 1
            self._grammars.move_to_end(key)
            return found
        self.misses += 1
        built = self._grammars[key] = build()
        if len(self._grammars) > _GRAMMARS_KEPT:
            self._grammars.popitem(last=False)
        return built


class Generation:
    """The use case behind Generate and GenerateStream."""

    def __init__(self, observer: GenerationObserver) -> None:
        self._observer = observer
        self.grammars = GrammarCache(observer)

    async def stream(
        self, request: GenerationRequest, dispatcher: Dispatcher
    ) -> AsyncGenerator[TextDelta | ToolCall | GenerationResult, None]:
        """Deltas as they come, then one result. Closing the iterator frees the model's slot.

        Raises InvalidArgument, Overloaded, and DeadlineExceeded when nothing was generated in time.
        """
        turn = _Turn(request, self.grammars, dispatcher)
        try:
            async with aclosing(turn.deltas()) as deltas:
                async for delta in deltas:
                    for event in turn.take(delta):
                        yield event
        except DeadlineExceeded:
            if not turn.tokens:
                raise
            turn.finish = FinishReason.DEADLINE
        for event in turn.rest():
            yield event
        result = turn.result()
        self._observer.finished(result)
        yield result


class _Turn:
    """The state of one generation."""

    def __init__(self, request: GenerationRequest, grammars: GrammarCache, dispatcher: Dispatcher) -> None:
        self._request, self._dispatcher = request, dispatcher
        self._began = time.monotonic()
        self._names = NameMap.of(tool.name for tool in request.prompt.tools)
        prompt = self._names.prompt(request.prompt)
        self._grammar = _grammar(request, prompt, self._names, grammars)
        self._prompt = render_prompt(prompt)
        self._prompt_tokens = 0
        self._parser = StreamParser()
        self._text = ""
        self._dispatched = Wait()
        self._first = 0.0
        self._cached = 0
        self._calls: list[ToolCall] = []
        self._rejected = 0
        self.tokens = 0
        self.finish: FinishReason | None = None

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        request = self._request
        deadline = self._began + request.deadline_seconds
        engine_request = EngineRequest(
            self._prompt,
            request.max_tokens,
            request.temperature,
            request.top_p,
            request.seed,
            request.stop,
            self._grammar,
        )
        run = self._dispatcher.run(
            engine_request,
            tenant_id=request.tenant_id,
            priority=request.priority,
            deadline=deadline,
            wait=self._dispatched,
        )
        async with aclosing(run) as deltas:
            while (delta := await _next(deltas, deadline)) is not None:
                yield delta

    def take(self, delta: Delta) -> list[TextDelta | ToolCall]:
        """What a delta makes certain."""
        self._first = self._first or time.monotonic()
        self.tokens += delta.tokens
        self._prompt_tokens, self._cached = delta.prompt_tokens, delta.cached_tokens
        if delta.finish is Finish.LENGTH:
            self.finish = FinishReason.LENGTH
        return self._told(self._parser.feed(delta.text) if not self._request.response_schema_json else [delta.text])

    def rest(self) -> list[TextDelta | ToolCall]:
        """What the parser still held back."""
        return self._told(self._parser.finish()[0])

    def _told(self, events: list[str | ToolCall]) -> list[TextDelta | ToolCall]:
        told: list[TextDelta | ToolCall] = []
        for event in events:
            if isinstance(event, str):
                self._text += event
                if event:
                    told.append(TextDelta(event))
            elif call := self._accepted(event):
                told.append(call)
        return told

    def _accepted(self, call: ToolCall) -> ToolCall | None:
        """The call under its own name, if its arguments are valid."""
        named = self._names.call(call)
        known = named.name in self._names.to_model
        if not known or problem_with(named, self._request.schemas.get(named.name, "")):
            self._rejected += 1
            return None
        self._calls.append(named)
        return named

    def _checked_text(self) -> str:
        text = self._text.strip()
        schema = self._request.response_schema_json
        if not schema or self.finish is not None or is_json_of(text, schema):
            return text
        self._rejected += 1
        return ""

    def result(self) -> GenerationResult:
        """The turn as a whole."""
        now = time.monotonic()
        text = self._checked_text()
        reason = self.finish or (FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP)
        first = (self._first or now) - self._began
        return GenerationResult(
            text=text,
            calls=tuple(self._calls),
            finish=reason,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self.tokens,
            cached_tokens=self._cached,
            queue_ms=1000 * self._dispatched.waited_seconds,
            first_token_ms=1000 * first,
            total_ms=1000 * (now - self._began),
            rejected_calls=self._rejected + self._parser.malformed,
        )


async def _next(deltas: AsyncGenerator[Delta, None], deadline: float) -> Delta | None:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await anext(deltas, None)
    except TimeoutError:
        raise DeadlineExceeded("The deadline passed while the model was generating.") from None


def _grammar(request: GenerationRequest, prompt: PromptInput, names: NameMap, grammars: GrammarCache) -> Grammar:
    if request.response_schema_json:
        return grammars.json(request.response_schema_json)
    if request.only_tool and request.only_tool not in names.to_model:
        raise InvalidArgument(
            f"tool_choice.name: {request.only_tool!r} is not among the declared tools.", field="tool_choice.name"
        )
    return grammars.get(request, prompt, names.to_model.get(request.only_tool, ""))
