"""Opinions reach the runs' traces, or are counted; feedback never waits for them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
from errand_agent.clients.mlflow import DROPPED, MlflowAssessments
from errand_agent.domain.runs import Opinion
from errand_common.telemetry.content import ContentPolicy

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OPINION = Opinion("run_1", "usr_1", False, "ask ada@example.com", "It is 42.")


class FakeMlflow:
    """Keeps assessments of one trace; `away` requests fail first."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.assessments: list[dict[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            self.away -= 1
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
        if request.method == "GET":
            assert request.url.params["trace_id"] == f"tr-{TRACE}"
            return httpx.Response(200, json={"trace": {"trace_info": {"assessments": self.assessments}}})
        assert f"/api/3.0/mlflow/traces/tr-{TRACE}/assessments" in request.url.path
        if request.method == "DELETE":
            gone = request.url.path.rpartition("/")[2]
            self.assessments = [kept for kept in self.assessments if kept["assessment_id"] != gone]
            return httpx.Response(200, json={})
        given = json.loads(request.content)["assessment"]
        self.assessments.append({**given, "assessment_id": f"a-{len(self.assessments)}"})
        return httpx.Response(200, json={})


def _trace_of(digits: str) -> Callable[[str], Awaitable[str]]:
    async def trace_of(_: str) -> str:
        return digits

    return trace_of


async def _told(mlflow: FakeMlflow, *opinions: Opinion, content: ContentPolicy = "redacted", trace: str = TRACE) -> int:
    """How many were dropped once all were told, one after the other."""
    before = DROPPED._value.get()
    async with httpx.AsyncClient(transport=httpx.MockTransport(mlflow), base_url="http://mlflow") as http:
        sender = MlflowAssessments(http, "http://mlflow", _trace_of(trace), content=content, pauses_seconds=(0, 0, 0))
        for opinion in opinions:
            sender.tell(opinion)
            await asyncio.gather(*sender._tasks.values())
    return int(DROPPED._value.get() - before)


async def test_an_opinion_is_an_assessment_and_its_correction_an_expectation() -> None:
    mlflow = FakeMlflow()
    assert await _told(mlflow, OPINION) == 0
    helpful, expected = mlflow.assessments
    assert (helpful["assessment_name"], helpful["feedback"]) == ("helpful", {"value": False})
    assert helpful["source"] == {"source_type": "HUMAN", "source_id": "usr_1"}
    assert helpful["rationale"] == "ask ***"
    assert (expected["assessment_name"], expected["expectation"]) == ("expected_response", {"value": "It is 42."})


async def test_where_spans_hold_no_words_assessments_do_not_either() -> None:
    mlflow = FakeMlflow()
    await _told(mlflow, OPINION, content="off")
    [helpful] = mlflow.assessments
    assert "rationale" not in helpful


async def test_another_opinion_of_the_same_person_replaces_the_first() -> None:
    mlflow = FakeMlflow()
    await _told(mlflow, OPINION, Opinion("run_1", "usr_1", True, "", ""), Opinion("run_1", "usr_2", False, "", ""))
    said = [(item["source"], item["feedback"]) for item in mlflow.assessments if item["assessment_name"] == "helpful"]
    assert [feedback for _, feedback in said] == [{"value": True}, {"value": False}]


async def test_what_is_said_while_the_first_opinion_waits_is_what_counts() -> None:
    mlflow = FakeMlflow(away=1)
    async with httpx.AsyncClient(transport=httpx.MockTransport(mlflow), base_url="http://mlflow") as http:
        sender = MlflowAssessments(
            http, "http://mlflow", _trace_of(TRACE), content="on", pauses_seconds=(0, 0.05, 0.05)
        )
        sender.tell(OPINION)
        await asyncio.sleep(0.02)
        sender.tell(replace(OPINION, helpful=True, comment="", correction=""))
        await asyncio.gather(*sender._tasks.values())
    assert [(item["assessment_name"], item["feedback"]) for item in mlflow.assessments] == [
        ("helpful", {"value": True})
    ]


async def test_an_opinion_that_is_being_stored_is_replaced_all_the_same() -> None:
    """A server goes on with what it has read, whether its caller still waits or not."""
    mlflow, is_storing = FakeMlflow(), asyncio.Event()
    stored: list[asyncio.Task[httpx.Response]] = []

    async def slowly(request: httpx.Request) -> httpx.Response:
        async def store() -> httpx.Response:
            await asyncio.sleep(0.1)
            return mlflow(request)

        if request.method != "POST":
            return mlflow(request)
        stored.append(asyncio.create_task(store()))
        is_storing.set()
        return await asyncio.shield(stored[-1])

    async with httpx.AsyncClient(transport=httpx.MockTransport(slowly), base_url="http://mlflow") as http:
        sender = MlflowAssessments(http, "http://mlflow", _trace_of(TRACE), content="on", pauses_seconds=(0, 0))
        sender.tell(replace(OPINION, comment="", correction=""))
        await is_storing.wait()
        sender.tell(replace(OPINION, helpful=True, comment="", correction=""))
        await asyncio.gather(*sender._tasks.values())
        await asyncio.gather(*stored)
    assert [item["feedback"] for item in mlflow.assessments] == [{"value": True}]


async def test_a_trace_that_comes_late_is_waited_for() -> None:
    mlflow = FakeMlflow(away=2)
    assert await _told(mlflow, OPINION) == 0
    assert len(mlflow.assessments) == 2


async def test_what_never_arrives_is_counted() -> None:
    assert await _told(FakeMlflow(away=99), OPINION) == 1


async def test_a_run_without_a_trace_has_nothing_to_assess() -> None:
    mlflow = FakeMlflow()
    assert await _told(mlflow, OPINION, trace="") == 0
    assert mlflow.assessments == []


async def test_no_more_wait_than_there_is_room_for() -> None:
    before = DROPPED._value.get()
    async with httpx.AsyncClient(transport=httpx.MockTransport(FakeMlflow())) as http:
        sender = MlflowAssessments(http, "http://mlflow", _trace_of(TRACE), content="on", pauses_seconds=(60,))
        for number in range(300):
            sender.tell(replace(OPINION, run_id=f"run_{number}"))
        assert len(sender._tasks) == 256
        assert DROPPED._value.get() - before == 44
        await sender.close()
    assert DROPPED._value.get() - before == 300, "what was on its way at the end is lost too"
