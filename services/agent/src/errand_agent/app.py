"""Builds the agent service from its settings and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from errand.agent.v1 import (
    agent_pb2_grpc,
    examples_pb2_grpc,
    memory_pb2_grpc,
    privacy_pb2_grpc,
    prompts_pb2_grpc,
    schedules_pb2_grpc,
    webhooks_pb2_grpc,
    workflows_pb2_grpc,
)
from errand_common.db import Database
from errand_common.db import migrate as migrate_database
from errand_common.http import Reach
from errand_common.main import wait_for_shutdown
from errand_common.principal import current_principal
from errand_common.rpc.client import create_channel
from errand_common.rpc.server import Registration, RpcServer
from errand_common.telemetry import configure_tracing, shutdown_tracing
from errand_common.telemetry.metrics import serve_metrics
from errand_common.tokens import TokenSigner, TokenVerifier

from errand_agent.admission import KIND as RUN
from errand_agent.admission import DueRuns
from errand_agent.callees import RunCallees
from errand_agent.clients.inference import InferenceModel
from errand_agent.clients.mlflow import open_assessments
from errand_agent.clients.mlflow_datasets import open_datasets
from errand_agent.clients.mlflow_prompts import open_prompts
from errand_agent.clients.mlflow_traces import open_traces
from errand_agent.clients.rag import RagRetriever
from errand_agent.clients.tools import ToolsToolbox
from errand_agent.clients.webhooks import GuardedSender
from errand_agent.domain.flags import Flag
from errand_agent.domain.loop import LoopOptions
from errand_agent.domain.runs import Opinion, Prices
from errand_agent.executor import Recall, RunExecutor
from errand_agent.flags import Flags
from errand_agent.journal import Bell
from errand_agent.settings import AgentSettings
from errand_agent.storage.webhooks import KIND as WEBHOOK
from errand_agent.takeover import Takeover
from errand_agent.telemetry import ObservedMemory, ObservedModel
from errand_agent.timers import Timers, Work
from errand_agent.transport.example_servicer import ExampleServicer
from errand_agent.transport.memory_servicer import MemoryServicer
from errand_agent.transport.privacy_servicer import PrivacyServicer
from errand_agent.transport.prompt_servicer import PromptServicer
from errand_agent.transport.schedule_servicer import ScheduleServicer
from errand_agent.transport.servicer import AgentServicer
from errand_agent.transport.webhook_servicer import WebhookServicer
from errand_agent.transport.workflow_servicer import WorkflowServicer
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.approvals import ApprovalUseCases
from errand_agent.use_cases.conversations import ConversationUseCases
from errand_agent.use_cases.examples import ExampleUseCases, log_nowhere
from errand_agent.use_cases.forks import ForkUseCases
from errand_agent.use_cases.memory import MemoryUseCases
from errand_agent.use_cases.privacy import KIND as RETENTION
from errand_agent.use_cases.privacy import PrivacyUseCases
from errand_agent.use_cases.prompt_copies import KIND as PROMPT
from errand_agent.use_cases.prompt_copies import PromptCopies
from errand_agent.use_cases.prompts import PromptUseCases, follow_none
from errand_agent.use_cases.runs import RunUseCases
from errand_agent.use_cases.schedules import KIND as SCHEDULE
from errand_agent.use_cases.schedules import ScheduleUseCases
from errand_agent.use_cases.webhooks import WebhookUseCases
from errand_agent.use_cases.workflows import WorkflowUseCases
from errand_agent.workflow_runner import NAME as WORKFLOW_RUN
from errand_agent.workflow_runner import WorkflowRunner

_SERVICES: dict[type, tuple[Callable[[Any, Any], None], str]] = {
    AgentServicer: (agent_pb2_grpc.add_AgentServiceServicer_to_server, "AgentService"),
    WorkflowServicer: (workflows_pb2_grpc.add_WorkflowServiceServicer_to_server, "WorkflowService"),
    MemoryServicer: (memory_pb2_grpc.add_MemoryServiceServicer_to_server, "MemoryService"),
    ExampleServicer: (examples_pb2_grpc.add_ExampleServiceServicer_to_server, "ExampleService"),
    PrivacyServicer: (privacy_pb2_grpc.add_PrivacyServiceServicer_to_server, "PrivacyService"),
    ScheduleServicer: (schedules_pb2_grpc.add_ScheduleServiceServicer_to_server, "ScheduleService"),
    WebhookServicer: (webhooks_pb2_grpc.add_WebhookServiceServicer_to_server, "WebhookService"),
    PromptServicer: (prompts_pb2_grpc.add_PromptServiceServicer_to_server, "PromptService"),
}
SCHEMA = "agent"
_log = structlog.get_logger(__name__)


def migrate(settings: AgentSettings) -> None:
    """Brings the service's own tables to the newest version."""
    migrate_database(settings.database("agent"), package="errand_agent.storage.migrations", schema=SCHEMA)


async def serve(settings: AgentSettings) -> None:
    """Serves until the process is asked to end; runs that are not done then go on at the next start."""
    configure_tracing("agent", settings)
    serve_metrics(settings.metrics_port, settings.host)
    if settings.is_embedded:
        migrate(settings)
    async with AsyncExitStack() as stack:
        database = Database(settings.database("agent"), schema=SCHEMA)
        stack.push_async_callback(database.close)
        targets = (settings.inference_target, settings.tools_target, settings.rag_target)
        channels = [await stack.enter_async_context(create_channel(target)) for target in targets]
        bell, flags = Bell(), _flags(stack, settings)
        inference, toolbox, retriever = (
            InferenceModel(channels[0]),
            ToolsToolbox(channels[1], bell.tell),
            RagRetriever(channels[2]),
        )
        model = ObservedModel(inference, "agent")
        options = LoopOptions(
            settings.retrieval_top_k,
            settings.retrieval_min_similarity,
            Prices(settings.price_prompt_usd_per_million, settings.price_completion_usd_per_million),
            settings.brief_model,
        )
        memory = ObservedMemory(database, ObservedModel(inference, "memory"))
        executor = RunExecutor(
            database,
            bell,
            _signer(settings),
            model,
            toolbox,
            retriever,
            options,
            approval_seconds=settings.approval_seconds,
            recall=_recall(memory, settings, flags),
            queued_at_once=settings.queued_runs_at_once,
        )
        copies = await _copies(stack, settings, database)
        follow = copies.follow if copies is not None else follow_none
        agents = AgentUseCases(database, toolbox, retriever, inference, follow)
        assessments = await open_assessments(
            stack, settings.mlflow_endpoint, settings.mlflow_headers, executor.trace_of, settings.trace_content
        )
        tell = assessments.tell if assessments is not None else _nobody
        runs = RunUseCases(database, bell, executor, tell, flags.is_on)
        executor.call_agents_by(RunCallees(agents, runs))
        executor.add_workflow(WORKFLOW_RUN, WorkflowRunner(database, runs).run)
        takeover = await _watched(stack, settings)
        await executor.start(settings.dbos_url(), settings.executor_id, held=takeover.held if takeover else None)
        if takeover is not None:
            takeover.watch()
        stack.push_async_callback(executor.close, settings.drain_seconds / 2)
        counting = asyncio.create_task(executor.count_workflows())
        stack.callback(counting.cancel)
        conversations = ConversationUseCases(database, agents)
        servicer = AgentServicer(
            runs,
            conversations,
            agents,
            ApprovalUseCases(database, bell),
            ForkUseCases(database, executor, agents),
        )
        workflow_cases = WorkflowUseCases(database, executor, agents, runs)
        traces = await open_traces(stack, settings.mlflow_endpoint, settings.mlflow_headers)
        privacy = PrivacyUseCases(database, executor, runs, workflow_cases, traces)
        schedules = ScheduleUseCases(database, runs, agents, conversations)
        works: dict[str, Work] = {
            **({PROMPT: copies.renew} if copies is not None else {}),
            RETENTION: privacy.sweep,
            RUN: DueRuns(database, executor.submit).begin,
            SCHEDULE: schedules.fire,
        }
        webhooks = _webhooks(stack, settings, database)
        # Receivers may be slow; what is due here does not wait for them.
        _tick(stack, Timers(database, works), Timers(database, {WEBHOOK: webhooks.deliver}))
        servicers = (
            servicer,
            WorkflowServicer(workflow_cases),
            MemoryServicer(memory),
            ExampleServicer(await _examples(stack, settings, database)),
            PrivacyServicer(privacy),
            ScheduleServicer(schedules),
            WebhookServicer(webhooks),
            PromptServicer(PromptUseCases(database)),
        )
        registrations = [_registration(each) for each in servicers]
        server = RpcServer(settings, TokenVerifier(settings.jwks), registrations)
        port = await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds / 2)
        stack.callback(runs.end)
        await server.set_serving(True)
        _log.info("serving", port=port)
        await wait_for_shutdown()
    shutdown_tracing()


async def _watched(stack: AsyncExitStack, settings: AgentSettings) -> Takeover | None:
    """The heartbeat, where there can be other replicas. It beats until the runs of this one have ended."""
    url = settings.database("agent")
    if not url.startswith("postgresql") or settings.dbos_url().startswith("sqlite"):
        return None
    takeover = Takeover(
        url,
        settings.executor_id,
        schema=SCHEMA,
        beat_seconds=settings.heartbeat_seconds,
        dead_after_seconds=settings.dead_after_seconds,
    )
    await takeover.start()
    stack.callback(takeover.close)
    return takeover


async def _copies(stack: AsyncExitStack, settings: AgentSettings, database: Database) -> PromptCopies | None:
    """Where MLflow's registry is."""
    registry = await open_prompts(stack, settings.mlflow_endpoint, settings.mlflow_headers)
    return None if registry is None else PromptCopies(database, registry)


async def _examples(stack: AsyncExitStack, settings: AgentSettings, database: Database) -> ExampleUseCases:
    datasets = await open_datasets(stack, settings.mlflow_endpoint, settings.mlflow_headers)
    return ExampleUseCases(database, log_nowhere if datasets is None else datasets.log)


def _flags(stack: AsyncExitStack, settings: AgentSettings) -> Flags:
    flags = Flags(settings.flags_file, flagd_target=settings.flagd_target, flagd_ca_file=settings.flagd_ca_file)
    stack.callback(flags.close)
    return flags


def _webhooks(stack: AsyncExitStack, settings: AgentSettings, database: Database) -> WebhookUseCases:
    sender = GuardedSender(Reach(settings.webhook_hosts, settings.webhook_private_networks))
    stack.push_async_callback(sender.close)
    return WebhookUseCases(database, sender, _webhook_seed(settings), settings.webhook_hosts)


def _tick(stack: AsyncExitStack, *timers: Timers) -> None:
    for each in timers:
        ticking = asyncio.create_task(each.run())
        stack.callback(ticking.cancel)


def _nobody(_: Opinion) -> None:
    """Who is told of opinions where no MLflow is."""


def _recall(memory: MemoryUseCases, settings: AgentSettings, flags: Flags) -> Recall:
    """How a run comes by what its person's agents know."""

    async def recall(message: str, agent: str, conversation_id: str) -> list[str]:
        if not settings.recalled_facts or not flags.is_on(Flag.RECALL_FACTS, current_principal().tenant_id):
            return []
        matches = await memory.query(
            text=message[:4096],
            key="",
            agent=agent,
            conversation_id=conversation_id,
            top_k=settings.recalled_facts,
            min_similarity=settings.recall_min_similarity,
        )
        return [match.fact.text for match in matches]

    return recall


def _registration(servicer: object) -> Registration:
    add, name = _SERVICES[type(servicer)]
    return Registration(add, servicer, f"errand.agent.v1.{name}")


def _webhook_seed(settings: AgentSettings) -> bytes:
    """What webhooks' secrets are derived from: kept as safely as the key that signs tokens, by being it."""
    return Path(str(settings.signing_key_file)).read_bytes()


def _signer(settings: AgentSettings) -> TokenSigner:
    return TokenSigner.from_pem(Path(str(settings.signing_key_file)).read_bytes(), issuer="errand-agent")
