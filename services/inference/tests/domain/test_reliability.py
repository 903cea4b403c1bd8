"""Models fail: requests are tried again, go elsewhere or end in a typed error, and every attempt is counted."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator

import pytest
from errand_common.errors import (
    ErrandError,
    InvalidArgument,
    ModelUnavailable,
    Overloaded,
    RateLimited,
    Unavailable,
)
from errand_inference.domain.chat import PromptInput, UserMessage
from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.engine import Capability, Delta, EngineRequest, Finish
from errand_inference.domain.generation import Generation, GenerationRequest, GenerationResult
from errand_inference.domain.reliability import CircuitBreaker, Course, Reliability
from errand_inference.domain.scheduler import Priority, Ticket
from errand_inference.engines.scripted import ScriptedEngine, ScriptRule
from errand_inference.metrics import FAILED, PrometheusObserver

QUICK = Reliability(pause_seconds=0.001)
BUSY = Unavailable("model", "busy")


class Failing:
    """An engine that fails before the token of each number given, request after request; None never."""

    name, precision, context_tokens, is_alive = "failing", "none", 4096, True
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, *fails_at: int | None, error: ErrandError = BUSY, words: str = "one two three four") -> None:
        self._fails_at, self._error, self._words = list(fails_at), error, words.split(" ")
        self.asked = self.generated = 0

    async def generate(self, request: EngineRequest) -> AsyncGenerator[Delta, None]:
        self.asked += 1
        fails_at = self._fails_at.pop(0) if self._fails_at else None
        for number, word in enumerate(self._words):
            if number == fails_at:
                raise self._error
            self.generated += 1
            yield Delta(word + " ", 1, Finish.STOP if number + 1 == len(self._words) else None, 10)

    def count_tokens(self, texts: list[str]) -> list[int]:
        return [0 for _ in texts]

    async def close(self) -> None: ...


def served_by(engine: Failing | ScriptedEngine, model: str = "m") -> Dispatcher:
    return Dispatcher(engine, slots=8, queue_capacity=1000, model=model)  # type: ignore[arg-type]


def asking(**fields: object) -> GenerationRequest:
    return GenerationRequest(PromptInput((UserMessage("hello"),)), **{"streamed": False, **fields})  # type: ignore[arg-type]


async def answer(
    *dispatchers: Dispatcher, policy: Reliability = QUICK, **fields: object
) -> tuple[GenerationResult, list[object]]:
    first, *others = dispatchers
    stream = Generation(PrometheusObserver(), policy).stream(asking(**fields), first, *others)
    events: list[object] = [event async for event in stream]
    result = events.pop()
    assert isinstance(result, GenerationResult)
    return result, events


async def test_a_failed_attempt_is_made_again_and_all_tokens_are_counted() -> None:
    engine = Failing(0, 3)
    before = FAILED.labels("twice", "UNAVAILABLE")._value.get()
    result, _ = await answer(served_by(engine, "twice"))
    assert (result.text, result.attempts, result.model) == ("one two three four", 3, "twice")
    assert result.completion_tokens == engine.generated == 7
    assert result.prompt_tokens == 20
    assert FAILED.labels("twice", "UNAVAILABLE")._value.get() == before + 2


async def test_what_was_told_is_not_told_again() -> None:
    dispatcher = served_by(Failing(2))
    with pytest.raises(Unavailable):
        await answer(dispatcher, streamed=True)
    assert dispatcher.scheduler.running == 0
    assert (await answer(served_by(Failing(0)), streamed=True))[0].text == "one two three four"


async def test_three_attempts_then_the_fallback_then_the_last_error() -> None:
    first, second = Failing(0, 0, 0, 0), Failing(words="from the other")
    result, _ = await answer(served_by(first), served_by(second, "other"))
    assert (first.asked, result.text, result.model, result.attempts) == (3, "from the other", "other", 4)
    with pytest.raises(Unavailable, match="busy"):
        await answer(served_by(Failing(0, 0, 0)))


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (InvalidArgument("no", field="messages"), 1),
        (ModelUnavailable("the key is refused", model="m"), 1),
        (Overloaded("full", retry_after_seconds=1), 1),
        (RateLimited("slow down", retry_after_seconds=0.001), 3),
        (BUSY, 3),
    ],
)
async def test_only_what_may_pass_is_tried_again(error: ErrandError, asked: int) -> None:
    engine = Failing(0, 0, 0, 0, error=error)
    with pytest.raises(type(error)):
        await answer(served_by(engine))
    assert engine.asked == asked


async def test_a_bad_request_does_not_go_to_the_fallback() -> None:
    other = Failing()
    with pytest.raises(InvalidArgument):
        await answer(served_by(Failing(0, error=InvalidArgument("no", field="messages"))), served_by(other))
    assert other.asked == 0


async def test_no_pause_outlasts_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await answer(served_by(Failing(0)), policy=Reliability(pause_seconds=60), deadline_seconds=5)
    assert time.monotonic() - began < 3


async def test_a_full_queue_leads_to_the_fallback_at_once() -> None:
    full = Dispatcher(Failing(), slots=1, queue_capacity=1, model="full")  # type: ignore[arg-type]
    for number in range(2):
        full.scheduler.submit(Ticket(f"x{number}", "t", Priority.NORMAL, time.monotonic() + 60), 0.0)
        full.scheduler.plan(0.0)
    result, _ = await answer(full, served_by(Failing(), "spare"))
    assert (result.model, full.breaker.is_open) == ("spare", False)


async def test_an_open_circuit_spares_a_dead_model_and_closes_when_it_lives() -> None:
    engine = Failing(*[0] * 9)
    dead, spare = served_by(engine, "dead"), served_by(Failing(), "spare")
    for _ in range(4):
        assert (await answer(dead, spare))[0].model == "spare"
    assert (engine.asked, dead.breaker.is_open) == (8, True)
    with pytest.raises(Unavailable, match="several times in a row"):
        await answer(dead)
    dead.breaker.open_seconds = dead.breaker._next_try = 0
    assert (await answer(dead, spare))[0].model == "dead"
    assert not dead.breaker.is_open


def test_an_open_circuit_lets_one_in_at_a_time() -> None:
    breaker = CircuitBreaker(failures=2, open_seconds=30)
    for _ in range(2):
        assert breaker.allows(0)
        breaker.failed(0)
    assert [breaker.allows(now) for now in (1, 29, 30, 31, 59, 60)] == [False, False, True, False, False, True]
    breaker.succeeded()
    assert breaker.allows(60)


def test_failures_by_chance_do_not_open_a_circuit() -> None:
    breaker, drawn = CircuitBreaker(), random.Random(7)
    for number in range(50_000):
        if drawn.random() < 0.2:
            breaker.failed(number)
        else:
            breaker.succeeded()
        assert not breaker.is_open


def test_pauses_double_and_are_never_shorter_than_a_provider_asks() -> None:
    course = Course((Dispatcher(Failing(), slots=1, queue_capacity=1),), Reliability(attempts=4))  # type: ignore[arg-type]
    pauses = [course.failed(BUSY) for _ in range(3)]
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(pauses))
    asked = Course((Dispatcher(Failing(), slots=1, queue_capacity=1),), QUICK)  # type: ignore[arg-type]
    assert asked.failed(RateLimited("later", retry_after_seconds=7)) == 7


async def test_one_in_five_attempts_fails_and_nearly_every_request_succeeds() -> None:
    engine = ScriptedEngine([ScriptRule("hello", "Good day.")], failure_rate=0.2, seed=11)
    dispatcher = served_by(engine)
    served = 0
    attempts = 0
    for _ in range(300):
        try:
            result, _ = await answer(dispatcher)
        except Unavailable:
            attempts += 3
        else:
            served += result.text == "Good day."
            attempts += result.attempts
    assert served >= 285
    assert attempts == dispatcher.stats.finished == engine.asked


async def test_an_endless_answer_is_cut_at_the_limit() -> None:
    result, events = await answer(
        served_by(Failing(words="x " * 200)), policy=Reliability(most_characters=100), streamed=True
    )
    assert len(result.text) <= 100
    assert result.finish.value == "length"
    assert "".join(event.text for event in events).strip() == result.text  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(4))
async def test_scripts_and_control_tokens_lose_their_bracket_however_they_are_cut(seed: int) -> None:
    text = "a < b <ScRipt>x</script> < script> <escape> <start_of_turn>user <b>bold</b>"
    rng, words, rest = random.Random(seed), [], text
    while rest:
        size = rng.randint(1, 6)
        words.append(rest[:size])
        rest = rest[size:]
    engine = Failing()
    engine._words = words
    engine.generate = _as_is(words)  # type: ignore[method-assign]
    result, events = await answer(served_by(engine), streamed=True)
    assert result.text == (
        "a < b \u2039ScRipt>x\u2039/script> \u2039 script> \u2039escape> \u2039start_of_turn>user <b>bold</b>"
    )
    assert "".join(event.text for event in events) == result.text  # type: ignore[attr-defined]


def _as_is(words: list[str]):  # type: ignore[no-untyped-def]
    async def generate(request: EngineRequest) -> AsyncGenerator[Delta, None]:
        for number, word in enumerate(words):
            yield Delta(word, 1, Finish.STOP if number + 1 == len(words) else None, 1)

    return generate


@pytest.mark.parametrize(
    "said",
    [
        '{"n": 3}',
        'Sure!\n```json\n{"n": 3}\n```\nAnything else?',
        'The answer is {"n": 3}, as {you} asked.',
        'First {"m": 1}, then {"n": 3}.',
    ],
)
async def test_json_is_found_in_what_a_model_says_around_it(said: str) -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'
    result, _ = await answer(served_by(Failing(words=said)), response_schema_json=schema)
    assert (result.text, result.attempts) == ('{"n": 3}', 1)


async def test_what_is_no_json_is_asked_for_again() -> None:
    schema = '{"type":"object","required":["n"]}'
    engine = Failing(words="I do not know { ] nothing")
    result, _ = await answer(served_by(engine), response_schema_json=schema)
    assert (result.text, result.attempts) == ("", 3)
