"""What people say of answers, as assessments on the runs' traces in MLflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import structlog
from errand_common.redaction import redacted
from errand_common.telemetry.content import ContentPolicy
from errand_common.telemetry.metrics import counter

from errand_agent.domain.runs import Opinion

DROPPED = counter("agent_assessments_dropped_total", "Feedback that did not reach MLflow; the agent's tables have it")
# Where MLflow itself takes spans; a collector has other addresses.
_TRACES = "/v1/traces"
_SECONDS = 10.0
_MOST_WAITING = 256
_CLOSE_SECONDS = 1.0
# A trace comes some seconds after its run, and MLflow itself may be away for a while.
_PAUSES_SECONDS = (0.0, 2.0, 10.0, 30.0, 120.0)
_log = structlog.get_logger(__name__)


class MlflowAssessments:
    """Sends opinions in the background; no feedback waits for MLflow or fails with it.

    At most 256 are on their way; what comes beyond, or is refused for some minutes, is dropped and counted.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        trace_of: Callable[[str], Awaitable[str]],
        *,
        content: ContentPolicy,
        pauses_seconds: Sequence[float] = _PAUSES_SECONDS,
    ) -> None:
        """`trace_of` gives the id of a run's trace as 32 hex digits, "" when it has none."""
        self._http, self._url, self._trace_of = http, url, trace_of
        self._content, self._pauses_seconds = content, pauses_seconds
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def tell(self, opinion: Opinion) -> None:
        """Begins to send; returns at once. What the person said before of this run and is on its way is void."""
        key = (opinion.run_id, opinion.principal_id)
        earlier = self._tasks.pop(key, None)
        if earlier is None and len(self._tasks) >= _MOST_WAITING:
            DROPPED.inc()
            return
        self._tasks[key] = asyncio.get_running_loop().create_task(self._follow(key, opinion, earlier))

    async def _follow(self, key: tuple[str, str], opinion: Opinion, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            earlier.cancel()
            await asyncio.gather(earlier, return_exceptions=True)
        try:
            await self._deliver(opinion)
        finally:
            if self._tasks.get(key) is asyncio.current_task():
                del self._tasks[key]

    async def close(self) -> None:
        """Gives up what is on its way."""
        tasks = list(self._tasks.values())
        DROPPED.inc(len(tasks))
        for _ in range(2):
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def _deliver(self, opinion: Opinion) -> None:
        reason = ""
        for pause in self._pauses_seconds:
            await asyncio.sleep(pause)
            try:
                await _to_its_end(self._send(opinion))
            except Exception as error:
                reason = type(error).__name__
            else:
                return
        DROPPED.inc()
        _log.warning("feedback did not reach MLflow", run_id=opinion.run_id, reason=reason)

    async def _send(self, opinion: Opinion) -> None:
        """Raises httpx.HTTPError; a person's earlier assessment is replaced."""
        digits = await self._trace_of(opinion.run_id)
        if not digits:
            return
        trace = f"{self._url}/api/3.0/mlflow/traces/tr-{digits}"
        known = await self._known(f"{self._url}/api/3.0/mlflow/traces/get", f"tr-{digits}", opinion.principal_id)
        for assessment in self._assessments(opinion, f"tr-{digits}"):
            if (earlier := known.get(assessment["assessment_name"])) is not None:
                (await self._http.delete(f"{trace}/assessments/{earlier}")).raise_for_status()
            sent = await self._http.post(f"{trace}/assessments", json={"assessment": assessment})
            sent.raise_for_status()

    async def _known(self, url: str, trace_id: str, principal_id: str) -> Mapping[str, str]:
        """Ids of the person's assessments by name; raises httpx.HTTPError when the trace is not there."""
        found = (await self._http.get(url, params={"trace_id": trace_id})).raise_for_status().json()
        assessments = found.get("trace", {}).get("trace_info", {}).get("assessments", [])
        return {
            item["assessment_name"]: item["assessment_id"]
            for item in assessments
            if item.get("source", {}).get("source_id") == principal_id
        }

    def _assessments(self, opinion: Opinion, trace_id: str) -> list[dict[str, Any]]:
        source = {"source_type": "HUMAN", "source_id": opinion.principal_id}
        common: dict[str, Any] = {"trace_id": trace_id, "source": source}
        helpful = {**common, "assessment_name": "helpful", "feedback": {"value": opinion.helpful}}
        if comment := self._allowed(opinion.comment):
            helpful["rationale"] = comment
        made = [helpful]
        if correction := self._allowed(opinion.correction):
            made.append({**common, "assessment_name": "expected_response", "expectation": {"value": correction}})
        return made

    def _allowed(self, text: str) -> str:
        """People's words, as the policy for spans lets them out."""
        if self._content == "off":
            return ""
        return text if self._content == "on" else str(redacted("content", text))


async def _to_its_end(work: Awaitable[None]) -> None:
    """A cancel waits for the work: what is sent while nobody waits for it could arrive after its successor."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        raise


async def open_api(
    stack: AsyncExitStack, endpoint: str | None, headers: Mapping[str, str], *, seconds: float
) -> tuple[httpx.AsyncClient, str] | None:
    """A client of MLflow and its address, None unless spans go to MLflow itself; closed with the stack."""
    if endpoint is None or not endpoint.endswith(_TRACES):
        return None
    http = await stack.enter_async_context(httpx.AsyncClient(headers=dict(headers), timeout=seconds))
    return http, endpoint.removesuffix(_TRACES)


async def open_assessments(
    stack: AsyncExitStack,
    endpoint: str | None,
    headers: Mapping[str, str],
    trace_of: Callable[[str], Awaitable[str]],
    content: ContentPolicy,
) -> MlflowAssessments | None:
    """None unless spans go to MLflow itself; closed with the stack."""
    opened = await open_api(stack, endpoint, headers, seconds=_SECONDS)
    if opened is None:
        return None
    assessments = MlflowAssessments(*opened, trace_of, content=content)
    stack.push_async_callback(assessments.close)
    return assessments
