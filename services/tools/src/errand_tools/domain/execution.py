"""Runs a tool: every way a call can end is an outcome that the model can act on."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from errand_common.errors import ErrandError
from errand_common.personal_data import PersonalDataPolicy

from errand_tools.domain.access import effective_policy
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.ledger import EffectAbsent, EffectCall, EffectLedger
from errand_tools.domain.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from errand_tools.domain.ports import Runner, ToolCaller
from errand_tools.domain.progress import Tell, unheard
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.sanitise import clean_text, to_result
from errand_tools.domain.schema import check_arguments, check_result
from errand_tools.domain.screening import Screen
from errand_tools.domain.tools import (
    CallContext,
    ExecutionStatus,
    JsonObject,
    Outcome,
    OutcomeUnknown,
    RetryClass,
    ServiceDown,
    SideEffect,
    Tool,
    ToolBusy,
    ToolDenied,
    ToolError,
    ToolFailed,
    ToolKind,
    ToolNotFound,
    ToolPolicy,
    failure,
)
from errand_tools.domain.usage import UsageBook

MAX_ERROR_CHARACTERS = 500
# Seconds before a call is tried again: one more try than these.
_PAUSES = (0.25, 1.0)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool, as a run asks for it."""

    name: str
    arguments_json: str
    position: CallPosition
    collection_ids: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()


class ToolExecutor:
    """Checks a call, runs it within its bounds, keeps its effect in the ledger, and counts how it ended.

    `runners` are those of the built-in tools by name, `callers` call all other kinds.
    `report` gets exceptions that a tool should not have raised, for the log; `personal_data` is the policy on answers.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        runners: Mapping[str, Runner],
        callers: Mapping[ToolKind, ToolCaller],
        ledger: EffectLedger,
        *,
        usage: UsageBook,
        limit: ConcurrencyLimit,
        rate: RateLimit,
        breaker: CircuitBreaker,
        report: Callable[[str, BaseException], None],
        personal_data: PersonalDataPolicy = PersonalDataPolicy.OFF,
    ) -> None:
        self._registry = registry
        self._runners = runners
        self._callers = callers
        self._ledger = ledger
        self._usage = usage
        self._limit = limit
        self._rate = rate
        self._breaker = breaker
        self._report = report
        self._personal_data = personal_data

    async def execute(self, tenant_id: str, call: Call, tell: Tell = unheard) -> Outcome:
        """The outcome of the call; `tell` is told how far it is.

        Raises Conflict when the call's position was used with other arguments, and whatever the
        stores raise when they are away: nothing was sent then.
        """
        tool = await self._registry.find(tenant_id, call.name)
        outcome, argument = await self._outcome(tenant_id, tool, call, tell)
        if tool is not None and outcome.status is not ExecutionStatus.UNKNOWN_TOOL:
            self._usage.count(tenant_id, tool, outcome, argument)
        return outcome

    async def _outcome(self, tenant_id: str, tool: Tool | None, call: Call, tell: Tell) -> tuple[Outcome, str]:
        """The outcome, and the argument that was refused."""
        arguments = _parse(call.arguments_json)
        if isinstance(arguments, str):
            return failure(ExecutionStatus.INVALID_ARGUMENTS, arguments), ""
        refusal = _refusal(tool, call)
        if tool is None or refusal is not None:
            stored = await self._ledger.stored(tenant_id, call.position, call.name, arguments)
            return stored or refusal or _unknown(call.name), ""
        checked, problem = check_arguments(tool.parameters, arguments, schema_hash=tool.schema_hash)
        if problem:
            return failure(ExecutionStatus.INVALID_ARGUMENTS, clean_text(problem.sentence)), problem.argument
        ready = _Ready(tenant_id, tool, call, arguments, checked, Screen(self._personal_data).over(tell))
        try:
            async with self._slot(ready):
                return await self._run(ready), ""
        except ToolError as error:
            return failure(error.status, error.message), ""

    def _slot(self, ready: "_Ready") -> AbstractAsyncContextManager[None]:
        """Built-in tools share their slots among tenants: they use the same processors."""
        owner = "" if ready.tool.kind is ToolKind.BUILTIN else ready.tenant_id
        return self._limit.slot(
            (owner, ready.tool.name),
            wait_seconds=ready.context.timeout_seconds,
            running=ready.tool.limits.concurrent_calls,
        )

    async def _run(self, ready: "_Ready") -> Outcome:
        if ready.tool.side_effect is SideEffect.NONE:
            return await self._attempt(ready, ready.context)

        async def send(effect_id: str) -> Outcome:
            return await self._attempt(ready, replace(ready.context, effect_id=effect_id))

        async def query() -> Outcome:
            return await self._query(ready)

        return await self._ledger.run(
            EffectCall(
                tenant_id=ready.tenant_id,
                position=ready.call.position,
                tool_name=ready.tool.name,
                arguments=ready.given,
                side_effect=ready.tool.side_effect,
                timeout_seconds=ready.context.timeout_seconds,
                send=send,
                query=query,
            )
        )

    async def _query(self, ready: "_Ready") -> Outcome:
        """Asks the tool's query tool with the same arguments what came of the effect."""
        query = await self._registry.find(ready.tenant_id, ready.tool.reconcile_tool)
        if query is None or query.side_effect is not SideEffect.NONE:
            raise OutcomeUnknown("The query tool is gone.", status=ExecutionStatus.UNSETTLED)
        known = query.parameters.get("properties", {})
        asked = {name: value for name, value in ready.arguments.items() if name in known}
        try:
            value = await self._guarded(ready.tenant_id, query, asked, ready.context)
        except ToolNotFound:
            raise EffectAbsent from None
        except ToolError as error:
            raise OutcomeUnknown(error.message, status=error.status) from None
        if _says_absent(value):
            raise EffectAbsent
        text, truncated = to_result(value, screen=Screen(self._personal_data).text)
        return Outcome(ExecutionStatus.SUCCEEDED, text, truncated=truncated)

    async def _attempt(self, ready: "_Ready", context: CallContext) -> Outcome:
        """Runs once. Raises OutcomeUnknown when an effect was sent and its answer is lost."""
        started, screen = time.perf_counter(), Screen(self._personal_data)
        try:
            value = await self._tried(ready, context)
            _check_result(ready.tool, value)
            text, truncated = to_result(value, screen=screen.text)
            screen.check(ready.tool)
        except ToolError as error:
            message = _safe(error.message, screen)
            cost = 0 if isinstance(error, ToolBusy | ToolDenied) else ready.tool.cost_micros
            return failure(error.status, message, duration_ms=_elapsed_ms(started), cost_micros=cost)
        except OutcomeUnknown as unknown:
            unknown.message = _safe(unknown.message, screen)
            if ready.tool.side_effect is not SideEffect.NONE:
                raise
            cost = ready.tool.cost_micros
            return failure(unknown.status, unknown.message, duration_ms=_elapsed_ms(started), cost_micros=cost)
        took = _elapsed_ms(started)
        return Outcome(ExecutionStatus.SUCCEEDED, text, took, truncated=truncated, cost_micros=ready.tool.cost_micros)

    async def _tried(self, ready: "_Ready", context: CallContext) -> Any:
        """The answer, of several tries where the tool's retry class is so, all within the time of one."""
        if ready.tool.retry is RetryClass.NEVER:
            return await self._guarded(ready.tenant_id, ready.tool, ready.arguments, context)
        ends_at = time.monotonic() + context.timeout_seconds
        for pause in _PAUSES:
            left = replace(context, timeout_seconds=ends_at - time.monotonic())
            try:
                return await self._guarded(ready.tenant_id, ready.tool, ready.arguments, left)
            except (ServiceDown, OutcomeUnknown) as error:
                if not _may_repeat(ready.tool, error) or time.monotonic() + pause >= ends_at:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter
        left = replace(context, timeout_seconds=max(0.0, ends_at - time.monotonic()))
        return await self._guarded(ready.tenant_id, ready.tool, ready.arguments, left)

    async def _guarded(self, tenant_id: str, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        if tool.kind is ToolKind.BUILTIN:
            return await self._timed(self._runners[tool.name], tool, arguments, context)
        caller = self._callers.get(tool.kind)
        if caller is None:
            raise ToolDenied("Tools of this kind are turned off here.")
        self._rate.take((tenant_id, tool.name), tool.limits.calls_per_minute)
        with self._breaker.guard((tenant_id, tool.name)):
            return await self._timed(_Called(caller, tenant_id, tool), tool, arguments, context)

    async def _timed(self, runner: Runner, tool: Tool, arguments: JsonObject, context: CallContext) -> Any:
        limit = context.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await runner.run(arguments, context)
        except TimeoutError:
            raise OutcomeUnknown(
                f"The tool took longer than its limit of {limit:.3g} seconds.",
                status=ExecutionStatus.TIMED_OUT,
            ) from None
        except (ToolError, OutcomeUnknown):
            raise
        except ErrandError as error:
            raise ServiceDown(f"The tool failed: {error.message.rstrip('.')}.") from None
        except Exception as error:
            # A tool's own fault must reach the model as an observation, never the caller as an
            # RPC error; what it said may hold secrets, so only the log gets it.
            self._report(tool.name, error)
            raise ToolFailed("The tool failed with an internal error.") from None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A call whose arguments were checked; `given` are those of the request, for its hash."""

    tenant_id: str
    tool: Tool
    call: Call
    given: JsonObject
    arguments: JsonObject
    tell: Tell

    @property
    def context(self) -> CallContext:
        return CallContext(self.tool.timeout_ms / 1000, collection_ids=self.call.collection_ids, tell=self.tell)


@dataclass(frozen=True, slots=True)
class _Called:
    """A registered tool as a runner."""

    caller: ToolCaller
    tenant_id: str
    tool: Tool

    async def run(self, arguments: JsonObject, context: CallContext) -> Any:
        return await self.caller.run(self.tenant_id, self.tool, arguments, context)


def _may_repeat(tool: Tool, error: ServiceDown | OutcomeUnknown) -> bool:
    """Whether the call surely did nothing, or may be done twice."""
    if isinstance(error, ServiceDown):
        return True
    return tool.side_effect in (SideEffect.NONE, SideEffect.IDEMPOTENT)


def _safe(message: str, screen: Screen) -> str:
    """What a tool says of its failure, for a model to read."""
    return screen.text(clean_text(message)[:MAX_ERROR_CHARACTERS])


def _parse(text: str) -> JsonObject | str:
    """The arguments, or a sentence that says what is wrong with them."""
    try:
        arguments = json.loads(text or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return "The arguments are not valid JSON; send one JSON object."
    if not isinstance(arguments, dict):
        return "The arguments must be one JSON object."
    return arguments


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _refusal(tool: Tool | None, call: Call) -> Outcome | None:
    if tool is None:
        return _unknown(call.name)
    if not tool.enabled:
        return failure(ExecutionStatus.UNKNOWN_TOOL, f"The tool '{tool.name}' is turned off.")
    if tool.offer is not None:
        message = f"The tool '{tool.name}' changed at its server and waits for a person's approval."
        return failure(ExecutionStatus.DENIED, message)
    if effective_policy(tool, call.roles) is ToolPolicy.DENY:
        return failure(ExecutionStatus.DENIED, f"The policy forbids the tool '{tool.name}'.")
    return None


def _unknown(name: str) -> Outcome:
    return failure(
        ExecutionStatus.UNKNOWN_TOOL,
        f"There is no tool named '{clean_text(name)}'; use one of the tools that were given.",
    )


def _check_result(tool: Tool, value: Any) -> None:
    """Raises ToolFailed for a result that breaks the tool's schema.

    What changes something has happened, whatever its answer looks like: a failure would be tried again.
    """
    if tool.result_schema is None or tool.side_effect is not SideEffect.NONE:
        return
    told = value.get("body") if tool.http is not None and isinstance(value, dict) else value
    problem = check_result(tool.result_schema, told)
    if problem:
        raise ToolFailed(f"The tool's answer is not as it should be: {problem}.")


def _says_absent(value: Any) -> bool:
    """A query tool answers 404, or an object whose happened, found or exists is false."""
    body = value.get("body", value) if isinstance(value, dict) else value
    return isinstance(body, dict) and any(body.get(word) is False for word in ("happened", "found", "exists"))


def _elapsed_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000
