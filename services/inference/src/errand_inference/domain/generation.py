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

from errand_common.errors import DeadlineExceeded, ErrandError, InvalidArgument, Unsupported

from errand_inference.domain.chat import PromptInput, ToolCall, UserMessage
from errand_inference.domain.dispatch import Dispatcher, Wait
from errand_inference.domain.engine import Capability, ChatTurn, Delta, EngineRequest, Finish, TokenLogprob
from errand_inference.domain.extraction import extract_json
from errand_inference.domain.format import render_prompt
from errand_inference.domain.grammar import Grammar, Limits, ToolChoice, build_grammar, build_json_grammar
from errand_inference.domain.loops import LoopWatch
from errand_inference.domain.names import NameMap
from errand_inference.domain.parser import StreamParser
from errand_inference.domain.reliability import Course, Reaction, Reliability, reaction_to
from errand_inference.domain.repair import Attempt, attempts
from errand_inference.domain.sanitise import TextSanitiser
from errand_inference.domain.scheduler import Priority
from errand_inference.domain.schemas import parse_schema, problem_with

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
    streamed: bool = True
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The whole turn. Times are milliseconds since the request came.

    A call whose arguments break the declared schema (what the grammar cannot hold: patterns, bounds) is left
    out and counted in `rejected_calls`, and so is JSON text that breaks the response schema. A turn of
    which nothing is left is tried again, bounded, and so is one whose model failed: `attempts` says how often it
    was begun, and the tokens are those of all attempts. `model` is the one that answered.
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
    attempts: int = 1
    model: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the turn's text."""

    text: str


class GenerationObserver(Protocol):
    """Is told what happened, for metrics."""

    def grammar_looked_up(self, *, hit: bool) -> None: ...

    def failed(self, model: str, error: ErrandError) -> None: ...

    def finished(self, result: GenerationResult) -> None: ...


class GrammarCache:
    """Grammars by tool set and choice, the least recently used dropped first."""

    def __init__(self, observer: GenerationObserver) -> None:
        self._grammars: OrderedDict[object, Grammar] = OrderedDict()
        self._observer = observer
        self.hits = self.misses = 0

    def get(self, request: GenerationRequest, prompt: PromptInput, only_tool: str, attempt: Attempt) -> Grammar:
        """The grammar of this request's tools; `prompt` and `only_tool` use the model's names."""
        tools = tuple(tool for tool in prompt.tools if not only_tool or tool.name == only_tool)
        names = tuple(tool.name for tool in tools)
        choice, limits = attempt.choice or request.choice, attempt.limits
        key = (names, tuple(request.schemas.items()), choice, request.single_call, limits)
        return self._cached(
            key, lambda: build_grammar(tools, choice=choice, single_call=request.single_call, limits=limits)
        )

    def json(self, schema_json: str, limits: Limits | None = None) -> Grammar:
        """The grammar of JSON of this schema."""
        return self._cached(
            (schema_json, limits),
            lambda: build_json_grammar(parse_schema(schema_json, field="response_schema_json"), limits=limits),
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

    def __init__(self, observer: GenerationObserver, reliability: Reliability | None = None) -> None:
        self._observer = observer
        self._reliability = reliability or Reliability()
        self.grammars = GrammarCache(observer)

    async def stream(
        self, request: GenerationRequest, dispatcher: Dispatcher, *fallbacks: Dispatcher
    ) -> AsyncGenerator[TextDelta | ToolCall | GenerationResult, None]:
        """Deltas as they come, then one result. Closing the iterator frees the model's slot.

        A model that fails is asked again, then the fallbacks in order, unless a piece was told already. Raises
        InvalidArgument; Overloaded and Unavailable when no model is left; DeadlineExceeded when nothing was
        generated in time.
        """
        course = Course((dispatcher, *fallbacks), self._reliability)
        turn = _Turn(request, self.grammars, course, self._observer)
        for attempt in attempts(request.choice, wants_json=turn.wants_json, max_tokens=request.max_tokens):
            async with aclosing(turn.answered(attempt)) as events:
                async for event in events:
                    yield event
            if not turn.is_empty:
                break
        for event in turn.held_text():
            yield event
        result = turn.result()
        self._observer.finished(result)
        yield result


class _Turn:
    """The state of one generation."""

    def __init__(
        self,
        request: GenerationRequest,
        grammars: GrammarCache,
        course: Course[Dispatcher],
        observer: GenerationObserver,
    ) -> None:
        self._request, self._course, self._grammars, self._observer = request, course, grammars, observer
        self._began = time.monotonic()
        self._deadline = self._began + request.deadline_seconds
        self._names = NameMap.of(tool.name for tool in request.prompt.tools)
        self._input = self._names.prompt(request.prompt)
        self._prompt = render_prompt(self._input)
        self._parser, self._loops, self._sanitiser = StreamParser(), LoopWatch(), TextSanitiser()
        self._text, self._model = "", ""
        self._json: str | None = None
        self._characters = 0
        self._first = self._waited_seconds = 0.0
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []
        self._rejected = self._attempts = 0
        self._prompt_tokens = self._cached_tokens = self._tokens = 0
        self._finish: FinishReason | None = None

    @property
    def wants_json(self) -> bool:
        return bool(self._request.response_schema_json)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to answer with, and time to try again."""
        if self._calls or self._finish is FinishReason.DEADLINE:
            return False
        if self.wants_json:
            return self._json is None
        # With stop texts an empty turn may be what was asked for.
        went_wrong = self._rejected or self._finish is FinishReason.LENGTH
        return not self._text.strip() and bool(went_wrong or not self._request.stop)

    async def answered(self, attempt: Attempt) -> AsyncGenerator[TextDelta | ToolCall, None]:
        """The events of whichever model gives the attempt; raises the last failure when none does."""
        while True:
            dispatcher, told = self._course.next(time.monotonic()), False
            try:
                async with aclosing(self._tried(attempt, dispatcher)) as events:
                    async for event in events:
                        told = True
                        yield event
            except ErrandError as error:
                pause_seconds = self._pause_after(error, dispatcher, told=told and self._request.streamed)
                await asyncio.sleep(pause_seconds)
            else:
                dispatcher.breaker.succeeded()
                self._model = dispatcher.model
                return

    def _pause_after(self, error: ErrandError, dispatcher: Dispatcher, *, told: bool) -> float:
        """Seconds to wait before the next is asked; raises the error when that makes no sense."""
        reaction, now = reaction_to(error), time.monotonic()
        if reaction is Reaction.AGAIN:
            dispatcher.breaker.failed(now)
        if reaction is not Reaction.NOBODY:
            self._observer.failed(dispatcher.model, error)
        if told or reaction is Reaction.NOBODY:
            raise error
        pause_seconds = self._course.failed(error)
        if now + pause_seconds >= self._deadline:
            raise error
        return pause_seconds

    async def _tried(self, attempt: Attempt, dispatcher: Dispatcher) -> AsyncGenerator[TextDelta | ToolCall, None]:
        """One attempt's events. Raises DeadlineExceeded when nothing was ever generated in time."""
        self._parser, self._loops, self._sanitiser = StreamParser(), LoopWatch(), TextSanitiser()
        self._text, self._json, self._finish = "", None, None
        self._characters = 0
        self._calls.clear()
        self._logprobs.clear()
        self._attempts += 1
        before = self._prompt_tokens, self._cached_tokens
        try:
            async with aclosing(self._deltas(attempt, dispatcher)) as deltas:
                async for delta in deltas:
                    self._prompt_tokens = before[0] + delta.prompt_tokens
                    self._cached_tokens = before[1] + delta.cached_tokens
                    for event in self._take(delta):
                        yield event
                    if self._is_too_long() or self._is_astray():
                        self._finish = FinishReason.LENGTH
                        break
        except DeadlineExceeded:
            if not self._tokens:
                raise
            self._finish = FinishReason.DEADLINE
        for event in self._told(self._parser.finish()[0], last=True):
            yield event
        if self.wants_json:
            self._json = extract_json(self._text, self._request.response_schema_json)
        self._rejected += self._parser.malformed

    def _is_too_long(self) -> bool:
        return self._characters > self._course.policy.most_characters

    def _is_astray(self) -> bool:
        """A call or JSON text that repeats itself: it would go on until the last token."""
        return self._loops.is_looping(self._text if self.wants_json else self._parser.open_call)

    async def _deltas(self, attempt: Attempt, dispatcher: Dispatcher) -> AsyncGenerator[Delta, None]:
        request, wait = self._request, Wait()
        if request.logprobs and Capability.LOGPROBS not in dispatcher.engine.capabilities:
            raise Unsupported(
                f"sampling.logprobs: the model {dispatcher.model!r} cannot tell log-probabilities.", feature="logprobs"
            )
        run = dispatcher.run(
            self._engine_request(attempt, dispatcher),
            tenant_id=request.tenant_id,
            priority=request.priority,
            deadline=self._deadline,
            wait=wait,
        )
        async with aclosing(run) as deltas:
            while (delta := await _next(deltas, self._deadline)) is not None:
                yield delta
        self._waited_seconds += wait.waited_seconds

    def _engine_request(self, attempt: Attempt, dispatcher: Dispatcher) -> EngineRequest:
        request, input = self._request, self._said(attempt, dispatcher)
        grammar = _grammar(request, self._input, self._names, self._grammars, attempt)
        seed = (request.seed or 0) + attempt.seed_step
        return EngineRequest(
            self._prompt if input is self._input else render_prompt(input),
            request.max_tokens,
            max(request.temperature, attempt.temperature),
            min(request.top_p, attempt.top_p),
            seed if attempt.seed_step else request.seed,
            request.stop,
            grammar,
            request.streamed,
            self._chat(attempt, input),
            request.logprobs,
        )

    def _said(self, attempt: Attempt, dispatcher: Dispatcher) -> PromptInput:
        """Who is bound by no grammar and gave no JSON is asked in simpler words, without what came before."""
        if not (self.wants_json and attempt.seed_step) or Capability.GRAMMAR in dispatcher.engine.capabilities:
            return self._input
        latest = [message for message in self._input.messages if isinstance(message, UserMessage)][-1:]
        told = f"Answer with JSON and nothing else. Its JSON Schema: {self._request.response_schema_json}"
        return PromptInput(tuple(latest) or self._input.messages, (), told)

    def _chat(self, attempt: Attempt, input: PromptInput) -> ChatTurn:
        request = self._request
        only_tool = self._names.to_model.get(request.only_tool, "")
        choice = attempt.choice or request.choice
        return ChatTurn(input, choice, only_tool, request.single_call, request.response_schema_json)

    def _take(self, delta: Delta) -> list[TextDelta | ToolCall]:
        """What a delta makes certain."""
        self._first = self._first or time.monotonic()
        self._tokens += delta.tokens
        self._characters += len(delta.text)
        self._logprobs += delta.logprobs
        if delta.finish is Finish.LENGTH:
            self._finish = FinishReason.LENGTH
        if self.wants_json:
            self._text += delta.text
            return []
        return self._told(self._parser.feed(delta.text))

    def held_text(self) -> list[TextDelta]:
        """JSON is told whole, once it is known to be what was asked for; nothing of it is taken back."""
        text = self._checked_text() if self.wants_json else ""
        return [TextDelta(text)] if text else []

    def _told(self, events: list[str | ToolCall], *, last: bool = False) -> list[TextDelta | ToolCall]:
        told: list[TextDelta | ToolCall] = []
        for event in events:
            if isinstance(event, str):
                told += self._spoken(self._sanitiser.feed(event))
            elif call := self._accepted(event):
                told.append(call)
        return told + self._spoken(self._sanitiser.finish()) if last else told

    def _spoken(self, text: str) -> list[TextDelta | ToolCall]:
        room = self._course.policy.most_characters - len(self._text)
        text = text[:room]
        self._text += text
        return [TextDelta(text)] if text else []

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
        if not self.wants_json:
            return text
        # What was cut off is told as it is: its reader knows from the reason that it is not whole.
        return self._json or (text[: self._course.policy.most_characters] if self._finish else "")

    def result(self) -> GenerationResult:
        """The turn as a whole."""
        now = time.monotonic()
        text = self._checked_text()
        rejected = self._rejected + (self.wants_json and self._finish is None and not text)
        if self._calls and self._finish is FinishReason.LENGTH:
            # The calls are whole; what was cut off after them is gone.
            self._finish = FinishReason.TOOL_CALLS
        reason = self._finish or (FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP)
        first = (self._first or now) - self._began
        return GenerationResult(
            text=text,
            calls=tuple(self._calls),
            finish=reason,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._tokens,
            cached_tokens=self._cached_tokens,
            queue_ms=1000 * self._waited_seconds,
            first_token_ms=1000 * first,
            total_ms=1000 * (now - self._began),
            rejected_calls=rejected,
            attempts=self._attempts,
            model=self._model,
            logprobs=tuple(self._logprobs),
        )


async def _next(deltas: AsyncGenerator[Delta, None], deadline: float) -> Delta | None:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await anext(deltas, None)
    except TimeoutError:
        raise DeadlineExceeded("The deadline passed while the model was generating.") from None


def _grammar(
    request: GenerationRequest, prompt: PromptInput, names: NameMap, grammars: GrammarCache, attempt: Attempt
) -> Grammar | None:
    """None where there is nothing to call: to mask each token costs more than to sanitise the text, and a turn that
    comes out empty is drawn again with a grammar."""
    if request.response_schema_json:
        return grammars.json(request.response_schema_json, attempt.limits)
    if not prompt.tools and request.choice is not ToolChoice.REQUIRED and attempt == Attempt():
        return None
    if request.only_tool and request.only_tool not in names.to_model:
        raise InvalidArgument(
            f"tool_choice.name: {request.only_tool!r} is not among the declared tools.", field="tool_choice.name"
        )
    return grammars.get(request, prompt, names.to_model.get(request.only_tool, ""), attempt)
