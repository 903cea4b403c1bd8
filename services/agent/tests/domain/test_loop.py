"""Every way a run can go, over scripted ports."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from errand_agent.domain import retries
from errand_agent.domain.agents import Agent
from errand_agent.domain.loop import AWAY, REFUSAL, LoopOptions, ReActLoop, Task
from errand_agent.domain.ports import (
    Call,
    Decision,
    ModelTurn,
    Passage,
    Thought,
    ToolResult,
    ToolTurn,
    Turn,
    UnreadableStep,
    UserTurn,
)
from errand_agent.domain.runs import Brief, Outcome, Prices, StepKind, StopReason, Usage
from errand_agent.testing.ports import (
    CountingObserver,
    MemoryJournal,
    ScriptedModel,
    ScriptedRetriever,
    ScriptedToolbox,
    called,
    said,
)
from errand_common.errors import InvalidArgument, ModelUnavailable, Overloaded, Unavailable

OK = ToolResult('{"result": 42}', failed=False, duration_ms=1.0)
FAILED = ToolResult('{"error": "division by zero"}', failed=True, duration_ms=1.0)
PASSAGE = Passage("chunk-1", "doc-1", "Handbook", "The warranty is 3 years.", 0.8)
AGENT = Agent("helper", tools=("calculator", "clock", "search_knowledge"))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_PAUSES", (0.0, 0.0, 0.0))


class Case:
    """A loop with its scripted ports."""

    def __init__(
        self,
        script: Sequence[Thought | Exception],
        *,
        agent: Agent = AGENT,
        toolbox: ScriptedToolbox | None = None,
        retriever: ScriptedRetriever | None = None,
        history: tuple[Turn, ...] = (),
        deadline: float = float("inf"),
        journal: MemoryJournal | None = None,
        options: LoopOptions | None = None,
        brief: str = "",
    ) -> None:
        self.options = options or LoopOptions()
        self.model = ScriptedModel(list(script))
        self.toolbox = toolbox or ScriptedToolbox({"calculator": OK, "clock": OK})
        self.retriever = retriever or ScriptedRetriever()
        self.journal = journal or MemoryJournal()
        self.observer = CountingObserver()
        self.task = Task("run-1", agent, "What is it?", history, deadline, brief=brief)

    async def run(self) -> Outcome:
        ports = (self.model, self.toolbox, self.retriever, self.journal, self.observer)
        return await ReActLoop(self.task, *ports, self.options).run()

    def kinds(self) -> list[StepKind]:
        return [step.kind for step in self.journal.steps]


async def test_text_is_the_answer() -> None:
    case = Case([said("It is 42.")])
    outcome = await case.run()
    assert outcome == Outcome(StopReason.ANSWER, "It is 42.", (), outcome.usage)
    assert outcome.usage.total == 20
    assert "".join(case.journal.told).strip() == "It is 42."
    assert case.kinds() == [StepKind.ANSWER]


async def test_a_call_is_observed_and_then_told() -> None:
    case = Case([called(("calculator", '{"expression": "6 * 7"}')), said("The result is 42.")])
    outcome = await case.run()
    assert outcome.answer == "The result is 42."
    assert case.kinds() == [StepKind.THINK, StepKind.ACT, StepKind.OBSERVE, StepKind.ANSWER]
    turns, _ = case.model.asked[1]
    assert turns == (
        UserTurn("What is it?"),
        ModelTurn("", (case.toolbox.executed[0][0],)),
        ToolTurn("calculator", '{"result": 42}'),
    )
    assert case.toolbox.executed[0][1:] == ("run-1", 1, 0)


async def test_parallel_calls_have_positions_of_their_own() -> None:
    case = Case([called(("calculator", "{}"), ("clock", "{}")), said("Both.")])
    await case.run()
    assert [(call.name, step, index) for call, _, step, index in case.toolbox.executed] == [
        ("calculator", 1, 0),
        ("clock", 1, 1),
    ]


async def test_the_step_limit_ends_with_an_answer_from_what_is_there() -> None:
    script = [called(("calculator", json.dumps({"n": n}))) for n in range(2)]
    case = Case([*script, said("So far 42.")], agent=replace(AGENT, max_steps=2))
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.MAX_STEPS, "So far 42.")
    assert case.model.asked[-1][1] is False


async def test_the_token_limit_ends_the_run() -> None:
    case = Case([called(("calculator", "{}"), tokens=400)], agent=replace(AGENT, max_tokens=500))
    outcome = await case.run()
    assert outcome.stop_reason is StopReason.MAX_TOKENS
    assert case.toolbox.executed == []


async def test_the_deadline_ends_the_run() -> None:
    outcome = await Case([called(("calculator", "{}"))], deadline=time.time() - 1).run()
    assert outcome.stop_reason is StopReason.DEADLINE


async def test_too_many_failures_end_the_run() -> None:
    toolbox = ScriptedToolbox({"calculator": FAILED})
    script = [called(("calculator", json.dumps({"n": n}))) for n in range(3)]
    case = Case([*script, said("I cannot.")], toolbox=toolbox)
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.ERROR_THRESHOLD, "I cannot.")
    assert len(toolbox.executed) == 3


async def test_the_model_sees_a_tool_s_failure() -> None:
    case = Case([called(("calculator", "{}")), said("It failed.")], toolbox=ScriptedToolbox({"calculator": FAILED}))
    await case.run()
    assert case.model.asked[1][0][-1] == ToolTurn("calculator", FAILED.result_json)


async def test_tools_that_are_away_are_an_observation() -> None:
    toolbox = ScriptedToolbox({"calculator": Unavailable("tools")})
    case = Case([called(("calculator", "{}")), said("Not now.")], toolbox=toolbox)
    outcome = await case.run()
    assert outcome.answer == "Not now."
    told = str(case.model.asked[1][0][-1])
    assert "tools service is not available" in told
    assert "not known whether this call took effect" in told


async def test_a_call_whose_answer_is_lost_is_asked_for_again_as_the_same_call() -> None:
    toolbox = ScriptedToolbox({"calculator": [Unavailable("tools"), Overloaded("busy", retry_after_seconds=1), OK]})
    case = Case([called(("calculator", "{}")), said("It is 42.")], toolbox=toolbox)
    await case.run()
    assert toolbox.executed == [(Call("calculator", "{}"), "run-1", 1, 0)] * 3
    assert case.model.asked[1][0][-1] == ToolTurn("calculator", OK.result_json)


async def test_what_tools_cost_counts_and_stops_the_run_before_the_next_turn() -> None:
    paid = replace(OK, usage=Usage(tool_cost_micros=60))
    case = Case(
        [called(("calculator", '{"n": 1}')), called(("calculator", '{"n": 2}')), said("Never.")],
        agent=replace(AGENT, max_cost_micros=100),
        toolbox=ScriptedToolbox({"calculator": paid}),
    )
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.cost_micros, outcome.answer) == (StopReason.MAX_COST, 120, "result: 42")
    assert len(case.model.asked) == 2


async def test_a_refused_call_is_not_asked_for_again() -> None:
    toolbox = ScriptedToolbox({"calculator": InvalidArgument("no", field="arguments_json")})
    await Case([called(("calculator", "{}")), said("No.")], toolbox=toolbox).run()
    assert len(toolbox.executed) == 1


async def test_without_the_tools_service_the_model_still_answers() -> None:
    case = Case([said("Hello.")], toolbox=ScriptedToolbox(away=Unavailable("tools")))
    outcome = await case.run()
    assert outcome.stop_reason is StopReason.ANSWER
    assert case.kinds()[0] is StepKind.ERROR
    assert case.model.asked[0][1] is False


async def test_without_documents_the_run_goes_on_and_says_so() -> None:
    case = Case([said("Hello.")], retriever=ScriptedRetriever(away=Unavailable("rag")))
    outcome = await case.run()
    assert outcome.stop_reason is StopReason.ANSWER
    assert case.kinds() == [StepKind.ERROR, StepKind.ANSWER]


async def test_a_model_that_comes_back_is_asked_again() -> None:
    case = Case([Unavailable("inference"), Unavailable("inference"), said("Here.")])
    assert (await case.run()).answer == "Here."


async def test_a_model_that_stays_away_ends_the_run_honestly() -> None:
    case = Case([Unavailable("inference")] * 4)
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.UNAVAILABLE, AWAY)
    assert len(case.model.asked) == 4


async def test_an_error_that_is_not_passing_is_not_tried_again() -> None:
    case = Case([InvalidArgument("messages: too long", field="messages"), said("never")])
    with pytest.raises(InvalidArgument):
        await case.run()
    assert len(case.model.asked) == 1


@pytest.mark.parametrize("during", ["1.think", "1.act", "2.think"])
async def test_a_cancelled_run_ends_where_it_is(during: str) -> None:
    journal = MemoryJournal(cancel_during=during)
    outcome = await Case([called(("calculator", "{}")), said("never")], journal=journal).run()
    assert outcome.stop_reason is StopReason.CANCELLED


async def test_a_run_cancelled_before_it_began_does_nothing() -> None:
    case = Case([said("never")], journal=MemoryJournal(cancelled=True))
    assert (await case.run()).stop_reason is StopReason.CANCELLED
    assert case.model.asked == []


async def test_nothing_usable_gets_one_more_chance_without_history() -> None:
    history = (UserTurn("earlier"), ModelTurn("said"))
    case = Case([said(""), said("Now.")], history=history)
    outcome = await case.run()
    assert outcome.answer == "Now."
    assert case.model.asked[0][0] == (*history, UserTurn("What is it?"))
    assert case.model.asked[1][0] == (UserTurn("What is it?"),)


async def test_nothing_usable_twice_is_an_honest_refusal() -> None:
    outcome = await Case([said(""), said("")]).run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.REFUSED, REFUSAL)


async def test_a_repair_may_call_a_tool() -> None:
    case = Case([said(""), called(("calculator", "{}")), said("42 it is.")])
    outcome = await case.run()
    assert outcome.answer == "42 it is."
    assert len(case.toolbox.executed) == 1


async def test_no_words_after_a_result_tell_the_result_plainly() -> None:
    outcome = await Case([called(("calculator", "{}")), said(""), said("")]).run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.ANSWER, "result: 42")


async def test_the_same_call_with_the_same_result_leads_to_the_answer() -> None:
    same = called(("calculator", "{}"))
    case = Case([same, same, said("42.")])
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.answer) == (StopReason.ANSWER, "42.")
    assert case.model.asked[2][1] is False


async def test_a_passage_stands_before_the_question_and_its_citation_is_kept() -> None:
    case = Case([said("It is 3 years. [1]")], retriever=ScriptedRetriever([PASSAGE]))
    outcome = await case.run()
    assert case.model.asked[0][0] == (UserTurn("Sources:\n[1] The warranty is 3 years.\n\nWhat is it?"),)
    assert outcome.answer == "It is 3 years. [1]"
    assert [(c.number, c.chunk_id, c.document_id) for c in outcome.citations] == [(1, "chunk-1", "doc-1")]


@pytest.mark.parametrize("passages", [[], [PASSAGE]])
async def test_a_citation_of_nothing_is_removed_and_counted(passages: list[Passage]) -> None:
    case = Case([said("So it is. [7]")], retriever=ScriptedRetriever(passages))
    outcome = await case.run()
    assert (outcome.answer, outcome.citations, case.observer.removed) == ("So it is.", (), 1)


async def test_found_passages_are_numbered_after_those_given() -> None:
    found = {"results": [{"source": 1, "text": "The cafeteria opens at 11.", "title": "Notes"}]}
    toolbox = ScriptedToolbox({"search_knowledge": ToolResult(json.dumps(found), failed=False, duration_ms=1.0)})
    script = [called(("search_knowledge", '{"query": "cafeteria"}')), said("At 11. [2]")]
    case = Case(script, toolbox=toolbox, retriever=ScriptedRetriever([PASSAGE]))
    outcome = await case.run()
    assert [(citation.number, citation.text) for citation in outcome.citations] == [(2, "The cafeteria opens at 11.")]
    assert '"source": 2' in str(case.model.asked[1][0][-1])


async def test_history_that_does_not_fit_is_left_out() -> None:
    history = tuple(turn for n in range(3) for turn in (UserTurn(f"q{n}"), ModelTurn(f"a{n}")))
    case = Case([said("ok")], history=history)
    case.model.tokens_per_text, case.model.context_tokens = 100, 1024 + 450
    await case.run()
    assert case.model.asked[0][0] == (UserTurn("q2"), ModelTurn("a2"), UserTurn("What is it?"))


async def test_a_replay_does_nothing_again_and_ends_the_same() -> None:
    first = Case([called(("calculator", "{}")), said("The result is 42.")])
    outcome = await first.run()
    again = Case([], journal=MemoryJournal(remembered=dict(first.journal.remembered)))
    assert await again.run() == outcome
    assert again.model.asked == []
    assert again.toolbox.executed == []


async def test_the_cost_limit_ends_the_run() -> None:
    """10 + 10 tokens at 2 and 5 millionths of a dollar each."""
    options = LoopOptions(prices=Prices(2, 5))
    script = [called(("calculator", "{}")), said("Done.")]
    case = Case(script, agent=replace(AGENT, max_cost_micros=69), options=options)
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.cost_micros) == (StopReason.MAX_COST, 70)
    assert case.toolbox.executed == []
    outcome = await Case(script, agent=replace(AGENT, max_cost_micros=140), options=options).run()
    assert (outcome.stop_reason, outcome.cost_micros) == (StopReason.ANSWER, 140)


async def test_a_tool_that_asks_runs_as_the_person_said() -> None:
    toolbox = ScriptedToolbox({"calculator": OK, "clock": OK}, asking=frozenset({"clock"}))
    edited = Call("clock", '{"zone": "UTC"}')
    journal = MemoryJournal(decisions={"clock": Decision(edited)})
    script = [called(("calculator", "{}"), ("clock", "{}")), said("Noon.")]
    case = Case(script, toolbox=toolbox, journal=journal)
    await case.run()
    assert journal.asked == [Call("clock", "{}")]
    assert [call for call, *_ in toolbox.executed] == [Call("calculator", "{}"), edited]
    assert edited in case.model.asked[1][0][1].calls  # type: ignore[union-attr]


async def test_a_person_s_time_is_not_the_run_s() -> None:
    toolbox = ScriptedToolbox({"calculator": OK}, asking=frozenset({"calculator"}))

    class SlowPerson(MemoryJournal):
        async def decide(self, step: int, calls: object) -> tuple[dict[int, Decision], float]:  # type: ignore[override]
            case.task = replace(case.task, deadline=time.time() - 50)
            loop.task = case.task
            return {0: Decision(Call("calculator", "{}"))}, 100.0

    case = Case([called(("calculator", "{}")), said("42.")], toolbox=toolbox, journal=SlowPerson())
    loop = ReActLoop(case.task, case.model, toolbox, case.retriever, case.journal, case.observer)
    assert (await loop.run()).stop_reason is StopReason.ANSWER


async def test_a_refusal_is_what_the_model_sees() -> None:
    toolbox = ScriptedToolbox({"calculator": OK}, asking=frozenset({"calculator"}))
    refused = Decision(Call("calculator", "{}"), "A person refused this call: no")
    case = Case(
        [called(("calculator", "{}")), said("I may not.")],
        toolbox=toolbox,
        journal=MemoryJournal(decisions={"calculator": refused}),
    )
    assert (await case.run()).answer == "I may not."
    assert case.model.asked[1][0][-1] == ToolTurn("calculator", '{"error": "A person refused this call: no"}')
    assert toolbox.executed == []


async def test_older_turns_become_a_brief() -> None:
    history = tuple(turn for n in range(5) for turn in (UserTurn(f"q{n}"), ModelTurn(f"a{n}")))
    case = Case([said("ok")], history=history, brief="User: before")
    outcome = await case.run()
    assert outcome.brief == Brief("User: before\nUser: q0\nAssistant: a0\nUser: q1\nAssistant: a1", 4)
    assert case.model.asked[0][0] == (*history[4:], UserTurn("What is it?"))
    assert case.model.instructions[0].endswith(outcome.brief.text)


async def test_a_brief_that_covers_all_stays_as_it_is() -> None:
    case = Case([said("ok")], history=(UserTurn("q"), ModelTurn("a")), brief="User: before")
    assert (await case.run()).brief is None
    assert case.model.instructions == ["Earlier in this conversation:\nUser: before"]


async def test_of_many_tools_few_are_shown() -> None:
    case = Case([said("ok")], agent=replace(AGENT, max_shown_tools=1))
    case.model.words = ("clock",)
    case.task = replace(case.task, message="What does the clock say?")
    await case.run()
    assert [tool["name"] for tool in case.journal.remembered["tools"]["tools"]] == ["clock"]


FALLING = replace(AGENT, model="small", fallback_models=("larger", "largest"), temperature=0.5)


async def test_the_next_model_is_asked_when_one_is_away() -> None:
    case = Case(
        [*[Unavailable("inference")] * 4, ModelUnavailable("not here", model="larger"), said("It is 42.")],
        agent=FALLING,
    )
    assert (await case.run()).answer == "It is 42."
    assert case.model.models == [*["small"] * 4, "larger", "largest"], "trying a missing model again would not help"
    assert set(case.model.temperatures) == {0.5}


async def test_the_next_model_is_asked_when_one_says_nothing_twice() -> None:
    case = Case([said(""), said(""), said("It is 42.")], agent=FALLING)
    assert (await case.run()).answer == "It is 42."
    assert case.model.models == ["small", "small", "larger"]


async def test_all_models_may_be_away() -> None:
    case = Case([Unavailable("inference")] * 12, agent=FALLING)
    assert (await case.run()).stop_reason is StopReason.UNAVAILABLE


async def test_calls_get_an_equal_share_of_what_is_left() -> None:
    agent = replace(AGENT, max_tokens=100, max_cost_micros=50)
    options = LoopOptions(prices=Prices(1.0, 1.0))
    case = Case([called(("calculator", "{}"), ("clock", "{}")), said("Both.")], agent=agent, options=options)
    await case.run()
    assert [(left.tokens, left.cost_micros) for left in case.toolbox.left if left] == [(40, 15), (40, 15)]


async def test_what_a_called_agent_used_counts_against_the_limit() -> None:
    used = ToolResult('{"answer": "42"}', usage=Usage(50, 10), run_id="run-2", paused_seconds=3.0)
    case = Case(
        [called(("calculator", "{}"))],
        agent=replace(AGENT, max_tokens=90),
        toolbox=ScriptedToolbox({"calculator": used}),
    )
    case.model.script.append(said("It is 42."))
    outcome = await case.run()
    assert (outcome.stop_reason, outcome.usage.total) == (StopReason.MAX_TOKENS, 100)
    assert outcome.paused_seconds == 3.0
    assert case.journal.steps[2].run_id == "run-2"


class _BreaksOff(ScriptedModel):
    """Is away after its first words; answers when it is asked again."""

    async def think(self, *args: Any, on_text: Callable[[str], Awaitable[None]], **more: Any) -> Thought:
        if not self.asked:
            self.asked.append(((), True))
            await on_text("It is ")
            raise Unavailable("inference")
        return await ScriptedModel.think(self, *args, on_text=on_text, **more)


async def test_an_answer_that_broke_off_is_not_told_twice() -> None:
    case = Case([])
    case.model = _BreaksOff([said("It is 42.")])
    assert (await case.run()).answer == "It is 42."
    assert case.journal.told == ["It is "], "the whole answer comes with the run's end"


@pytest.mark.parametrize(
    "remembered",
    [
        {"tools": {"tools": [{"name": "calculator"}]}},
        {"retrieve": {"found": []}},
        {"1.think": {"text": "", "usage": {}}},
        {"1.act": {"results": [{"result": 42}]}},
    ],
)
async def test_a_step_in_a_form_of_another_version_is_told_from_a_fault(remembered: dict[str, Any]) -> None:
    case = Case([called(("calculator", "{}")), said("Done.")], journal=MemoryJournal(remembered=remembered))
    with pytest.raises(UnreadableStep):
        await case.run()
    assert not case.journal.steps or case.journal.steps[-1].kind is not StepKind.ANSWER
