"""Runs that go on from a step of another one."""

from __future__ import annotations

from dataclasses import replace

from errand_common.db import Database, new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import current_principal

from errand_agent.domain.agents import Agent
from errand_agent.domain.conversations import Role
from errand_agent.domain.runs import Run, RunState, StopReason
from errand_agent.executor import RunExecutor
from errand_agent.storage.conversations import ConversationRepository, claim
from errand_agent.storage.models import RunRow
from errand_agent.storage.runs import RunRepository, agent_of
from errand_agent.telemetry import STORED
from errand_agent.use_cases.access import visible_owner
from errand_agent.use_cases.agents import AgentUseCases

# What a run may end as for reasons that are gone later; a rollback may bring back who can read it.
DEAD_LETTERS = frozenset({StopReason.UNAVAILABLE, StopReason.INTERNAL, StopReason.INCOMPATIBLE})


class ForkUseCases:
    """Forks and redrives of the caller's runs."""

    def __init__(self, database: Database, executor: RunExecutor, agents: AgentUseCases) -> None:
        self._database, self._executor, self._agents = database, executor, agents

    async def fork(self, run_id: str, from_step: int, *, instructions: str | None, model: str | None) -> str:
        """The new run's id. Raises NotFound, Conflict, InvalidArgument."""
        row = await self._ended(run_id)
        if from_step not in await self._executor.model_steps(run_id):
            raise InvalidArgument(
                f"from_model_step: the run has no model step {from_step}; read its steps again.",
                field="from_model_step",
            )
        agent = agent_of(row)
        changed = replace(
            agent,
            instructions=agent.instructions if instructions is None else instructions,
            model=agent.model if model is None else model,
        )
        if model is not None:
            await self._agents.check_models(changed)
        return await self._begin(row, changed, from_step)

    async def redrive(self, run_id: str) -> str:
        """The new run's id; it goes on at the last model step, or after what that called. Raises NotFound, Conflict."""
        row = await self._ended(run_id)
        steps = await self._executor.model_steps(run_id)
        if row.stop_reason not in DEAD_LETTERS or not steps:
            raise Conflict(
                "Only a run that ended UNAVAILABLE, INTERNAL or INCOMPATIBLE is tried again; start a new run.",
                resource="run",
                id=run_id,
            )
        has_acted = await self._executor.has_acted(run_id, steps[-1])
        return await self._begin(row, agent_of(row), None if has_acted else steps[-1])

    async def _ended(self, run_id: str) -> RunRow:
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            row = await RunRepository(session).row(principal.tenant_id, run_id)
        owner = visible_owner(principal)
        if row is None or (owner is not None and row.principal_id != owner):
            raise NotFound("run", run_id)
        if row.state != RunState.ENDED.value:
            raise Conflict("The run has not ended yet; wait for it or cancel it.", resource="run", id=run_id)
        return row

    async def _begin(self, origin: RunRow, agent: Agent, from_step: int | None) -> str:
        """A run with what the origin did before the step (None: at all), and with what was said before it."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            runs, conversations = RunRepository(session), ConversationRepository(session)
            title = (await conversations.title_of(origin.conversation_id)) or ""
            conversation = await conversations.add(principal.tenant_id, principal.id, title=title, agent=origin.agent)
            for message in await conversations.before_run(origin.conversation_id, origin.id):
                await conversations.say(conversation, message.role, message.text, message.run_id)
            run = Run(
                id=new_id("run"),
                tenant_id=principal.tenant_id,
                principal_id=principal.id,
                conversation_id=conversation.id,
                agent=origin.agent,
                message=origin.message,
                state=RunState.QUEUED,
                created_at=utc_now(),
                forked_from=origin.id,
            )
            claim(conversation, run.id)
            row = await runs.add(run, principal, agent, "")
            await conversations.say(conversation, Role.USER, origin.message, run.id)
            STORED.inc()
            await runs.copy_events(row, origin.id, before=None if from_step is None else f"{from_step}.")
            # Before the commit: a process that dies between the two leaves no run that nobody executes.
            await self._executor.fork(origin.id, run.id, from_step)
        return run.id
