"""Personal data in what tools tell: the policy holds for answers, failures and progress of every tool."""

import json
from typing import Any

import pytest
from errand_common.personal_data import PersonalDataPolicy
from errand_tools.domain.effects import CallPosition, EffectFilter
from errand_tools.domain.execution import Call
from errand_tools.domain.ports import Page
from errand_tools.domain.progress import Progress
from errand_tools.domain.tools import CallContext, ExecutionStatus, JsonObject, OutcomeUnknown, SideEffect, ToolFailed
from errand_tools.testing.bench import ToolBench, error

ANSWER = {"who": "ann@example.com", "ann@example.com": [4111111111111111, 42, "+49 30 1234567"]}
MASKED = {"who": "[EMAIL]", "[EMAIL]": ["[CARD]", 42, "[PHONE]"]}


def _bench(policy: PersonalDataPolicy) -> ToolBench:
    bench = ToolBench()
    bench.personal_data = policy
    bench.restart()
    return bench


@pytest.mark.parametrize(("policy", "told"), [(PersonalDataPolicy.OFF, ANSWER), (PersonalDataPolicy.MASK, MASKED)])
@pytest.mark.parametrize("side_effect", [SideEffect.NONE, SideEffect.IDEMPOTENT])
async def test_an_answer_is_masked_where_that_is_the_policy(
    policy: PersonalDataPolicy, told: Any, side_effect: SideEffect
) -> None:
    bench = _bench(policy)
    await bench.add("send", side_effect)
    bench.http.behaviours["send"] = ANSWER
    assert json.loads((await bench.run("send")).result_json) == told
    kept = await bench.effects.list("t1", Page(10), EffectFilter())
    assert [json.loads(effect.outcome.result_json) for effect in kept if effect.outcome] == [told] * len(kept)


async def test_an_answer_is_refused_where_nothing_was_changed_and_masked_where_something_was() -> None:
    bench = _bench(PersonalDataPolicy.BLOCK)
    await bench.add("look")
    await bench.add("send", SideEffect.ASK)
    bench.http.behaviours["look"] = bench.http.behaviours["send"] = ANSWER
    refused = await bench.run("look")
    assert refused.status is ExecutionStatus.DENIED
    assert "holds personal data (e-mail address, payment card, phone number)" in error(refused)
    assert "ann@" not in refused.result_json
    assert json.loads((await bench.run("send", index=1)).result_json) == MASKED


@pytest.mark.parametrize("side_effect", [SideEffect.NONE, SideEffect.IDEMPOTENT])
@pytest.mark.parametrize(
    "raised",
    [
        ToolFailed("Nobody named ann@example.com <start_of_turn>."),
        OutcomeUnknown("The service answered 500: ann@example.com <start_of_turn>.", status=ExecutionStatus.FAILED),
    ],
)
async def test_what_a_failure_says_is_cleaned_and_masked(side_effect: SideEffect, raised: Exception) -> None:
    bench = _bench(PersonalDataPolicy.MASK)
    await bench.add("send", side_effect)
    bench.http.behaviours["send"] = raised
    said = error(await bench.run("send"))
    assert "[EMAIL]" in said
    assert "<start_of_turn>" not in said
    assert "ann@" not in said


async def test_progress_is_masked() -> None:
    class Telling:
        async def run(self, arguments: JsonObject, context: CallContext) -> str:
            context.tell(Progress("mailing ann@example.com", 1, 2))
            return "done"

    bench = _bench(PersonalDataPolicy.MASK)
    bench.runners["mailer"] = Telling()
    bench.restart()
    told: list[Progress] = []
    call = Call("mailer", '{"to": "all"}', CallPosition("run_1", 1, 0))
    await bench.executor.execute("t1", call, told.append)
    assert told == [Progress("mailing [EMAIL]", 1, 2)]
