"""The ReAct loop: think, act, observe, until there is an answer or a limit is met."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from errand_common.errors import DeadlineExceeded, ErrandError, Unavailable

from errand_agent.domain import remembered, steps
from errand_agent.domain.agents import Agent
from errand_agent.domain.citations import check_citations, with_sources
from errand_agent.domain.context import Parts, plan, with_brief, without_counts, write_brief
from errand_agent.domain.observing import RunObserver
from errand_agent.domain.ports import (
    Call,
    Decision,
    Journal,
    Model,
    ModelTurn,
    Passage,
    Retriever,
    RunCancelled,
    Thought,
    Toolbox,
    ToolResult,
    ToolSpec,
    ToolTurn,
    Turn,
    UserTurn,
)
from errand_agent.domain.retries import RETRYABLE, retried
from errand_agent.domain.runs import Brief, Budget, Outcome, Prices, Step, StepKind, StopReason, Usage
from errand_agent.domain.shortlist import shortlist
from errand_agent.domain.thinking import Prompt, Thinker

REFUSAL = "I'm sorry, I could not find an answer to this."
AWAY = "The model is not available right now; please try again later."


@dataclass(frozen=True, slots=True)
class Task:
    """What a run works on.

    `history` holds earlier turns of the conversation, oldest first, `history_ids` their messages;
    `brief` tells of those before. `prompt` names the version that its instructions come from.
    """

    run_id: str
    agent: Agent
    message: str
    history: tuple[Turn, ...] = ()
    deadline: float = float("inf")
    conversation_id: str = ""
    brief: str = ""
    history_ids: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What the operator sets: when passages are put before the question, prices, who writes briefs.

    With no `brief_model` a brief is the beginnings of older turns: models as small as the bundled one
    do not summarise well.
    """

    top_k: int = 3
    min_similarity: float = 0.22
    prices: Prices = field(default_factory=Prices)
    brief_model: str = ""


@dataclass(slots=True)
class ReActLoop:
    """Runs one task over its ports."""

    task: Task
    model: Model
    toolbox: Toolbox
    retriever: Retriever
    journal: Journal
    observer: RunObserver
    options: LoopOptions = field(default_factory=LoopOptions)
    _turns: list[Turn] = field(default_factory=list)
    _sources: dict[int, Passage] = field(default_factory=dict)
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)
    _usage: Usage = field(default_factory=Usage)
    _errors: int = 0
    _last_result: str = ""
    _instructions: str = ""
    _brief: Brief | None = None
    _asking: frozenset[str] = frozenset()
    _paused_seconds: float = 0.0

    async def run(self) -> Outcome:
        """The outcome; raises what ports raise, and UnreadableStep."""
        try:
            outcome = await self._run()
        except RunCancelled:
            outcome = self._ended(StopReason.CANCELLED, "")
        return self._whole(outcome)

    def broken_off(self, reason: StopReason, message: str) -> Outcome:
        """The outcome of a run that raised, with what it had used."""
        return self._whole(self._ended(reason, message))

    def _whole(self, outcome: Outcome) -> Outcome:
        return replace(outcome, cost_micros=self._cost_micros, brief=self._brief, paused_seconds=self._paused_seconds)

    @property
    def _cost_micros(self) -> int:
        return self.options.prices.cost_micros(self._usage)

    async def _run(self) -> Outcome:
        if await self.journal.is_cancelled():
            return self._ended(StopReason.CANCELLED, "")
        tools, passages = await asyncio.gather(self._declared_tools(), self._retrieve())
        self._asking = frozenset(tool.name for tool in tools if tool.asks)
        await self._assemble(passages, tools)
        limits = self.task.agent.limits
        for number in range(1, limits.max_steps + 1):
            try:
                thought = await self._think(number, tools, may_call=True)
            except RETRYABLE as error:
                return await self._away(number, error)
            if stop := await self._stop_after(thought):
                return stop
            if not thought.calls:
                return await self._answer(number, thought, tools)
            if await self._act(number, thought):
                return await self._conclude(number + 1, tools, StopReason.ANSWER)
            if self._is_over_cost:
                return self._ended(StopReason.MAX_COST, self._known())
            if self._errors >= limits.max_errors:
                return await self._conclude(number + 1, tools, StopReason.ERROR_THRESHOLD)
        return await self._conclude(limits.max_steps + 1, tools, StopReason.MAX_STEPS)

    async def _stop_after(self, thought: Thought) -> Outcome | None:
        """A limit that a model step has met."""
        if await self.journal.is_cancelled():
            return self._ended(StopReason.CANCELLED, thought.text)
        if self._usage.total > self.task.agent.limits.max_tokens:
            return self._ended(StopReason.MAX_TOKENS, thought.text or self._known())
        if self._is_over_cost:
            return self._ended(StopReason.MAX_COST, thought.text or self._known())
        if time.time() > self._deadline:
            return self._ended(StopReason.DEADLINE, thought.text or self._known())
        return None

    @property
    def _is_over_cost(self) -> bool:
        return 0 < self.task.agent.limits.max_cost_micros < self._cost_micros

    @property
    def _deadline(self) -> float:
        """A person's time to decide is not the run's."""
        return self.task.deadline + self._paused_seconds

    def _known(self) -> str:
        """What the tools gave so far, in plain words."""
        return _plainly(self._last_result) if self._last_result else ""

    def _ended(self, reason: StopReason, answer: str) -> Outcome:
        return Outcome(reason, answer, (), self._usage)

    async def _declared_tools(self) -> list[ToolSpec]:
        async def work() -> dict[str, Any]:
            try:
                declared = await self.toolbox.declared(self.task.agent.tools)
            except ErrandError as error:
                return {"tools": [], "away": error.message}
            agent = self.task.agent
            shown = await shortlist(self.model, self.task.message, declared, agent.shown_tools)
            return {"tools": [asdict(tool) for tool in shown]}

        if not self.task.agent.tools and not self.task.agent.agents:
            return []
        stored = await self.journal.once("tools", work)
        await self._record_away(
            "tools", "The tools are not available; the run goes on without them.", stored.get("away")
        )
        return remembered.tools(stored)

    async def _record_away(self, key: str, summary: str, message: str | None) -> None:
        """What follows from a remembered step is told after it, so that a replay tells it as well."""
        if message is not None:
            await self.journal.record(f"{key}.error", [steps.away(summary, message)])

    def _unique(self, step: str) -> str:
        """The step's name among those of all runs; the same again when the step is done again."""
        return f"{self.task.run_id}.{step}"

    async def _retrieve(self) -> list[Passage]:
        async def work() -> dict[str, Any]:
            began = time.monotonic()
            with self.observer.step(StepKind.RETRIEVE, self._unique("retrieve"), {"query": self.task.message}):
                try:
                    found = await self.retriever.find(
                        self.task.message[:4096],
                        collections=self.task.agent.collections,
                        top_k=self.options.top_k,
                        min_similarity=self.options.min_similarity,
                    )
                except ErrandError as error:
                    return {"passages": [], "away": error.message}
            return {"passages": [asdict(passage) for passage in found], "duration_ms": _milliseconds_since(began)}

        stored = await self.journal.once("retrieve", work)
        await self._record_away(
            "retrieve", "The documents are not available; the run goes on without.", stored.get("away")
        )
        found, duration_ms = remembered.passages(stored)
        if found:
            await self.journal.record("retrieve", [steps.found(found, duration_ms)])
        return found

    async def _assemble(self, passages: list[Passage], tools: list[ToolSpec]) -> None:
        """Brief, history, sources and question, within the model's context."""
        task = self.task
        instructions = with_brief(task.agent.instructions, task.brief)
        parts = Parts(instructions, tools, task.message, [p.text for p in passages], task.history, task.brief)

        async def work() -> dict[str, Any]:
            try:
                planned = await plan(self.model, parts, model_name=task.agent.model)
            except ErrandError:
                # Counting is a courtesy to the model; without it the history is left out, never the question.
                planned = without_counts(parts)
            older = task.history[: len(task.history) - planned.turns]
            brief, by_model = task.brief, False
            if older:
                brief, by_model = await write_brief(self.model, task.brief, older, model_name=self.options.brief_model)
            self.observer.context(planned, summarised=by_model)
            return {"turns": planned.turns, "passages": planned.passages, "brief": brief}

        stored: dict[str, Any] = {"turns": 0, "passages": 0, "brief": ""}
        if task.history or task.brief or passages:
            stored = await self.journal.once("context", work)
        turns, shown_count, brief = remembered.context(stored)
        older_count = len(task.history) - turns
        if older_count:
            self._brief = Brief(brief, older_count)
        self._instructions = with_brief(task.agent.instructions, brief)
        shown = passages[:shown_count]
        self._sources = dict(enumerate(shown, start=1))
        self._turns = [*task.history[older_count:], UserTurn(with_sources(task.message, shown))]

    @property
    def _thinker(self) -> Thinker:
        return Thinker(self.task.agent, self.model, self.journal, self.observer)

    async def _think(
        self, number: int, tools: Sequence[ToolSpec], *, may_call: bool, models: Sequence[str] = ()
    ) -> Thought:
        async def work() -> dict[str, Any]:
            began = time.monotonic()
            prompt = Prompt(self._turns, self._instructions, tools, may_call)
            thought = await self._thinker.think(
                prompt,
                key=f"{number}.answer",
                step=self._unique(f"{number}.answer"),
                models=models or self.task.agent.models,
                deadline=self._deadline,
            )
            return {**asdict(thought), "duration_ms": _milliseconds_since(began)}

        thought, duration_ms = remembered.thought(await self.journal.once(f"{number}.think", work))
        if thought.calls:
            await self.journal.record(f"{number}.think", [steps.decided(thought, duration_ms)])
        self._usage += thought.usage
        return thought

    async def _act(self, number: int, thought: Thought) -> bool:
        """Runs the calls at once; true when all of them only gave what they gave before."""
        decisions = await self._decisions(number, thought.calls)
        calls = tuple(decision.call for decision in decisions)

        async def work() -> dict[str, Any]:
            left = self._left(len(calls))
            observed = await asyncio.gather(
                *(self._call(number, index, said, left) for index, said in enumerate(decisions))
            )
            return {
                "results": [asdict(result) for result, _ in observed],
                "durations_ms": [duration for _, duration in observed],
            }

        await self.journal.record(f"{number}.act", [steps.acted(call) for call in calls])
        results, durations = remembered.results(await self.journal.once(f"{number}.act", work, has_effects=True))
        await self.journal.record(
            f"{number}.observe", [steps.observed(*one) for one in zip(decisions, results, durations, strict=True)]
        )
        self._turns.append(ModelTurn(thought.text, calls))
        known = [self._observe(call, result) for call, result in zip(calls, results, strict=True)]
        return all(known)

    def _left(self, shares: int) -> Budget | None:
        """What each of so many calls may use; None when nothing is left."""
        limits = self.task.agent.limits
        tokens = (limits.max_tokens - self._usage.total) // shares
        cost = (limits.max_cost_micros - self._cost_micros) // shares if limits.max_cost_micros else 0
        seconds = self._deadline - time.time()
        if tokens <= 0 or seconds <= 0 or (limits.max_cost_micros and cost <= 0):
            return None
        return Budget(tokens, cost, seconds)

    async def _decisions(self, number: int, calls: Sequence[Call]) -> list[Decision]:
        """What may run: all of it, unless a tool asks a person first."""
        asked = {index: call for index, call in enumerate(calls) if call.name in self._asking}
        decided: dict[int, Decision] = {}

        async def work() -> dict[str, Any]:
            given, seconds = await self.journal.decide(number, asked)
            said = {
                str(index): {"arguments_json": decision.call.arguments_json, "refusal": decision.refusal}
                for index, decision in given.items()
            }
            return {"decided": said, "seconds": seconds}

        if asked:
            with self.observer.waiting(self._unique(f"{number}.decide")):
                stored = await self.journal.once(f"{number}.decide", work)
            decided, seconds = remembered.decisions(stored, asked)
            self._paused_seconds += seconds
        return [decided.get(index, Decision(call)) for index, call in enumerate(calls)]

    def _observe(self, call: Call, result: ToolResult) -> bool:
        """Remembers a result and what it used; true when the same call gave the same before."""
        text = self._numbered_on(call, result.result_json)
        self._turns.append(ToolTurn(call.name, text))
        self._usage += result.usage
        self._paused_seconds += result.paused_seconds
        key = (call.name, call.arguments_json)
        known = self._seen.get(key) == result.result_json
        self._seen[key] = result.result_json
        self._errors += result.failed
        if not result.failed:
            self._last_result = text
        return known

    def _numbered_on(self, call: Call, result_json: str) -> str:
        """A knowledge search's passages get the numbers after those of the sources given before."""
        if call.name != "search_knowledge":
            return result_json
        result = json.loads(result_json)
        found = result.get("results") if isinstance(result, dict) else None
        for item in found if isinstance(found, list) else []:
            number = len(self._sources) + 1
            item["source"] = number
            self._sources[number] = _passage_of(item)
        return json.dumps(result, ensure_ascii=False)

    async def _call(self, number: int, index: int, decision: Decision, left: Budget | None) -> tuple[ToolResult, float]:
        """What the call gave, and the milliseconds it took."""
        call, began = decision.call, time.monotonic()
        if decision.refusal:
            return ToolResult(json.dumps({"error": decision.refusal}), failed=True), 0.0
        attributes = {"tool": call.name, "arguments": call.arguments_json}
        with self.observer.step(StepKind.ACT, self._unique(f"{number}.{index}"), attributes) as span:
            result = await self._executed(number, index, call, left)
            span(result.result_json)
        return result, _milliseconds_since(began)

    async def _executed(self, number: int, index: int, call: Call, left: Budget | None) -> ToolResult:
        """What the call gave. Asked for again under the same step and index it is the same call, never a second one."""

        async def attempt(_: int) -> ToolResult:
            return await self.toolbox.execute(
                call,
                run_id=self.task.run_id,
                step=number,
                index=index,
                collections=self.task.agent.collections,
                left=left,
            )

        try:
            return await retried(attempt, self.journal, self._deadline)
        except (Unavailable, DeadlineExceeded) as error:
            # The model would make a new call of it, which could do it twice.
            message = f"{error.message} It is not known whether this call took effect; do not make it again."
        except ErrandError as error:
            message = error.message
        return ToolResult(json.dumps({"error": message}), failed=True)

    async def _answer(self, number: int, thought: Thought, tools: Sequence[ToolSpec]) -> Outcome:
        """The model's text as the answer; nothing usable gets one more chance."""
        if thought.text:
            return await self._finish(number, thought, StopReason.ANSWER)
        self._turns = self._plain_question()
        try:
            second = await self._think(number + 1000, tools, may_call=not self._last_result)
        except RETRYABLE as error:
            return await self._away(number + 1000, error)
        if second.calls:
            await self._act(number + 1000, second)
            return await self._conclude(number + 1001, tools, StopReason.ANSWER)
        if second.text:
            return await self._finish(number + 1000, second, StopReason.ANSWER)
        return await self._fall_back(number + 1500, tools)

    async def _fall_back(self, number: int, tools: Sequence[ToolSpec]) -> Outcome:
        """The agent's model gave nothing usable, twice: what others say, what the tools gave, or an honest refusal."""
        if others := self.task.agent.models[1:]:
            try:
                thought = await self._think(number, tools, may_call=False, models=others)
            except RETRYABLE as error:
                return await self._away(number, error)
            if thought.text:
                return await self._finish(number, thought, StopReason.ANSWER)
        if self._last_result:
            return await self._finish(number, _said(_plainly(self._last_result)), StopReason.ANSWER)
        return await self._finish(number, _said(REFUSAL), StopReason.REFUSED)

    def _plain_question(self) -> list[Turn]:
        """The repair's prompt: the question and what the tools gave, without history and sources."""
        started = next(
            (index for index, turn in enumerate(self._turns) if isinstance(turn, ModelTurn) and turn.calls),
            len(self._turns),
        )
        return [UserTurn(self.task.message), *self._turns[started:]]

    async def _conclude(self, number: int, tools: Sequence[ToolSpec], reason: StopReason) -> Outcome:
        """An answer from what is there, without further calls."""
        try:
            thought = await self._think(number, tools, may_call=False)
        except RETRYABLE as error:
            return await self._away(number, error)
        text = thought.text or self._known() or REFUSAL
        return await self._finish(number, Thought(text, (), thought.usage, thought.model), reason)

    async def _finish(self, number: int, thought: Thought, reason: StopReason) -> Outcome:
        answer, citations, removed = check_citations(thought.text, self._sources)
        if removed:
            self.observer.citations_removed(removed)
        step = Step(StepKind.ANSWER, answer.splitlines()[0][:200] if answer else "", usage=thought.usage)
        await self.journal.record(f"{number}.answer", [step])
        return Outcome(reason, answer or REFUSAL, citations, self._usage)

    async def _away(self, number: int, error: ErrandError) -> Outcome:
        await self._record_away(f"{number}.model", "The model is not available.", error.message)
        reason = StopReason.CANCELLED if await self.journal.is_cancelled() else StopReason.UNAVAILABLE
        return Outcome(reason, "" if reason is StopReason.CANCELLED else AWAY, (), self._usage)


def _said(text: str) -> Thought:
    return Thought(text, (), Usage())


def _plainly(result_json: str) -> str:
    """A tool's result for a person, when the model found no words."""
    result = json.loads(result_json)
    if isinstance(result, dict):
        return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in result.items())
    return str(result)


def _passage_of(item: Mapping[str, Any]) -> Passage:
    return Passage(
        str(item.get("chunk_id", "")),
        str(item.get("document_id", "")),
        str(item.get("title", "")),
        str(item["text"]),
        1.0,
    )


def _milliseconds_since(began: float) -> float:
    return round(1000 * (time.monotonic() - began), 3)
