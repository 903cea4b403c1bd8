"""Between the domain's dataclasses and protobuf messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from errand.agent.v1 import agent_pb2 as pb
from errand.common.v1 import common_pb2
from errand_common.errors import InvalidArgument
from google.protobuf.timestamp_pb2 import Timestamp

from errand_agent.domain.agents import Agent
from errand_agent.domain.approvals import Approval, ApprovalState
from errand_agent.domain.conversations import Conversation, Message
from errand_agent.domain.runs import Citation, Priority, Run, RunState, Step, StopReason, Usage


def timestamp(moment: datetime) -> Timestamp:
    """A moment for the wire."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def usage_message(usage: Usage) -> common_pb2.TokenUsage:
    """Token usage for the wire."""
    return common_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def step_message(step: Step, index: int) -> pb.Step:
    """A step for the wire; `index` counts from 1."""
    return pb.Step(
        index=index,
        kind=f"STEP_KIND_{step.kind.value}",
        summary=step.summary,
        tool_name=step.tool_name,
        arguments_json=step.arguments_json,
        result_json=step.result_json,
        duration_ms=step.duration_ms,
        usage=usage_message(step.usage),
        run_id=step.run_id,
    )


def priority(number: int) -> Priority:
    """When a run begins among others."""
    name = pb.RunPriority.Name(number).removeprefix("RUN_PRIORITY_")
    return Priority(name) if number else Priority.AT_ONCE


def priority_name(value: Priority) -> str:
    """The same for the wire."""
    return "RUN_PRIORITY_" + ("UNSPECIFIED" if value is Priority.AT_ONCE else value.value)


def _citation(citation: Citation) -> pb.Citation:
    return pb.Citation(
        number=citation.number,
        chunk_id=citation.chunk_id,
        document_id=citation.document_id,
        title=citation.title,
        page=citation.page,
        start_offset=citation.start_offset,
        end_offset=citation.end_offset,
        text=citation.text,
    )


def approval_message(approval: Approval) -> pb.Approval:
    """An approval for the wire."""
    return pb.Approval(
        id=approval.id,
        run_id=approval.run_id,
        tool_name=approval.tool_name,
        arguments_json=approval.arguments_json,
        state=f"APPROVAL_STATE_{approval.state.value}",
        edited_arguments_json=approval.edited_arguments_json,
        reason=approval.reason,
        decided_by=approval.decided_by,
        created_at=timestamp(approval.created_at),
        expires_at=timestamp(approval.expires_at),
        decided_at=timestamp(approval.decided_at) if approval.decided_at else None,
    )


def approval_state(state: int) -> ApprovalState | None:
    """The state a listing is filtered by; None for all."""
    if state == pb.APPROVAL_STATE_UNSPECIFIED:
        return None
    return ApprovalState(pb.ApprovalState.Name(state).removeprefix("APPROVAL_STATE_"))


def run_message(run: Run) -> pb.Run:
    """A run for the wire."""
    message = pb.Run(
        id=run.id,
        conversation_id=run.conversation_id,
        agent=run.agent,
        state=f"RUN_STATE_{run.state.value}",
        answer=run.answer,
        steps=[step_message(step, index) for index, step in enumerate(run.steps, start=1)],
        citations=[_citation(citation) for citation in run.citations],
        usage=usage_message(run.usage),
        last_sequence=run.last_sequence,
        created_at=timestamp(run.created_at),
        message=run.message,
        cost_micros=run.cost_micros,
        forked_from=run.forked_from,
        parent_run_id=run.parent_run_id,
        prompt=run.prompt,
        approvals=[approval_message(approval) for approval in run.approvals],
    )
    if run.state is RunState.WAITING:
        message.stop_reason = pb.STOP_REASON_NEEDS_APPROVAL
    if run.stop_reason is not None:
        message.stop_reason = pb.StopReason.Value(f"STOP_REASON_{run.stop_reason.value}")  # type: ignore[assignment]
    if run.ended_at is not None:
        message.ended_at.CopyFrom(timestamp(run.ended_at))
    return message


def run_state(state: int) -> RunState | None:
    """The state a listing is filtered by; None for all."""
    return None if state == pb.RUN_STATE_UNSPECIFIED else RunState(pb.RunState.Name(state).removeprefix("RUN_STATE_"))


def stop_reasons(reasons: Sequence[int]) -> list[StopReason]:
    """The reasons a listing is filtered by; raises InvalidArgument for one that is not specified."""
    if pb.STOP_REASON_UNSPECIFIED in reasons:
        raise InvalidArgument("stop_reasons: name reasons, or leave it empty for all.", field="stop_reasons")
    return [StopReason(pb.StopReason.Name(reason).removeprefix("STOP_REASON_")) for reason in reasons]


def conversation_message(conversation: Conversation) -> pb.Conversation:
    """A conversation for the wire."""
    return pb.Conversation(
        id=conversation.id,
        title=conversation.title,
        agent=conversation.agent,
        message_count=conversation.message_count,
        created_at=timestamp(conversation.created_at),
        updated_at=timestamp(conversation.updated_at),
        archived=conversation.archived,
    )


def message_message(message: Message) -> pb.ConversationMessage:
    """A message of a conversation for the wire."""
    return pb.ConversationMessage(
        id=message.id,
        role=f"MESSAGE_ROLE_{message.role.value}",
        text=message.text,
        run_id=message.run_id,
        created_at=timestamp(message.created_at),
    )


def agent_message(agent: Agent) -> pb.Agent:
    """An agent for the wire, its limits as they are in force."""
    limits = agent.limits
    return pb.Agent(
        name=agent.name,
        description=agent.description,
        instructions=agent.instructions,
        model=agent.model,
        tools=agent.tools,
        collections=agent.collections,
        max_steps=limits.max_steps,
        max_tokens=limits.max_tokens,
        max_seconds=limits.max_seconds,
        max_errors=limits.max_errors,
        max_cost_micros=limits.max_cost_micros,
        max_shown_tools=agent.shown_tools,
        agents=agent.agents,
        fallback_models=agent.fallback_models,
        temperature=agent.temperature,
        prompt=agent.prompt,
        version=agent.version,
        is_default=agent.is_default,
    )


def agent_definition(message: pb.Agent) -> Agent:
    """The agent a request defines."""
    return Agent(
        name=message.name,
        description=message.description,
        instructions=message.instructions,
        model=message.model,
        tools=tuple(message.tools),
        collections=tuple(message.collections),
        max_steps=message.max_steps,
        max_tokens=message.max_tokens,
        max_seconds=message.max_seconds,
        max_errors=message.max_errors,
        max_cost_micros=message.max_cost_micros,
        max_shown_tools=message.max_shown_tools,
        agents=tuple(message.agents),
        fallback_models=tuple(message.fallback_models),
        temperature=message.temperature,
        prompt=message.prompt,
    )
