"""Runs and their events as the REST API tells them."""

from errand.agent.v1 import agent_pb2 as pb

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import resources as r


def run(message: pb.Run) -> r.Run:
    """A run."""
    return r.Run(
        id=message.id,
        conversation_id=message.conversation_id,
        agent=message.agent,
        state=convert.enum_or(r.RunState, pb.RunState, message.state, "RUN_STATE_", r.RunState.QUEUED),
        stop_reason=convert.enum_or_none(r.StopReason, pb.StopReason, message.stop_reason, "STOP_REASON_"),
        message=message.message,
        answer=message.answer,
        steps=[_step(step) for step in message.steps],
        citations=[_citation(citation) for citation in message.citations],
        usage=convert.usage(message.usage),
        last_sequence=message.last_sequence,
        created_at=convert.moment(message, "created_at"),
        ended_at=convert.moment(message, "ended_at"),
        cost_micros=message.cost_micros,
        forked_from=message.forked_from,
        parent_run_id=message.parent_run_id,
        prompt=message.prompt,
        approvals=[approval(item) for item in message.approvals],
    )


def priority(number: int) -> r.RunPriority:
    """When a run begins; an unspecified one at once."""
    return convert.enum_or(r.RunPriority, pb.RunPriority, number, "RUN_PRIORITY_", r.RunPriority.AT_ONCE)


def priority_name(value: r.RunPriority) -> str:
    """The same for the wire."""
    return "RUN_PRIORITY_" + ("UNSPECIFIED" if value is r.RunPriority.AT_ONCE else value.name)


def event(message: pb.RunEvent) -> r.RunEvent:
    """An event of a run."""
    body: r.RunStarted | r.Step | r.TextDelta | r.ToolProgress | r.Approval | r.Run
    match message.WhichOneof("event"):
        case "started":
            started = message.started
            body = r.RunStarted(started.run_id, started.conversation_id, started.agent)
        case "step":
            body = _step(message.step)
        case "delta":
            body = r.TextDelta(message.delta.text)
        case "tool_progress":
            told = message.tool_progress
            body = r.ToolProgress(told.tool_name, told.call_index, told.message, told.done, told.total, told.elapsed_ms)
        case "approval":
            body = approval(message.approval)
        case _:
            body = run(message.ended)
    return r.RunEvent(message.sequence, convert.moment(message, "at"), body)


def approval(message: pb.Approval) -> r.Approval:
    return r.Approval(
        id=message.id,
        run_id=message.run_id,
        tool_name=message.tool_name,
        arguments=convert.json_object(message.arguments_json),
        state=convert.enum_or(
            r.ApprovalState, pb.ApprovalState, message.state, "APPROVAL_STATE_", r.ApprovalState.PENDING
        ),
        edited_arguments=convert.json_object(message.edited_arguments_json),
        reason=message.reason,
        decided_by=message.decided_by,
        created_at=convert.moment(message, "created_at"),
        expires_at=convert.moment(message, "expires_at"),
        decided_at=convert.moment(message, "decided_at"),
    )


def _step(message: pb.Step) -> r.Step:
    return r.Step(
        index=message.index,
        kind=convert.enum_or(r.StepKind, pb.StepKind, message.kind, "STEP_KIND_", r.StepKind.ERROR),
        summary=message.summary,
        tool_name=message.tool_name or None,
        arguments=convert.json_object(message.arguments_json),
        result=convert.json_value(message.result_json),
        duration_ms=message.duration_ms,
        usage=convert.usage(message.usage) if message.HasField("usage") else None,
        run_id=message.run_id or None,
    )


def _citation(message: pb.Citation) -> r.Citation:
    return r.Citation(
        number=message.number,
        chunk_id=message.chunk_id,
        document_id=message.document_id,
        title=message.title,
        page=message.page if message.HasField("page") else None,
        start_offset=message.start_offset,
        end_offset=message.end_offset,
        text=message.text,
    )
