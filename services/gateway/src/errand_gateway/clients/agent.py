"""The agent service over gRPC."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1.agent_pb2_grpc import AgentServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.domain import resources as r

if TYPE_CHECKING:
    from errand.agent.v1.agent_pb2_grpc import AgentServiceAsyncStub

DEPENDENCY: Final = "agent"


class GrpcAgentBackend:
    """AgentBackend on a channel.

    `run_seconds` bounds a run that a caller waits for, `watch_seconds` a stream of events,
    `call_seconds` everything else.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        run_seconds: float = 120.0,
        watch_seconds: float = 3600.0,
        call_seconds: float = 10.0,
    ) -> None:
        self._stub: AgentServiceAsyncStub = AgentServiceStub(channel)
        self._run_seconds = run_seconds
        self._watch_seconds = watch_seconds
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def run(self, command: r.RunCommand) -> r.Run:
        """Runs an agent and waits for the end."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RunAgent(_request(command), timeout=deadline_seconds(self._run_seconds))
        return run(response.run)

    async def stream(self, command: r.RunCommand) -> AsyncIterator[r.RunEvent]:
        """Runs an agent; closing the iterator cancels the run."""
        call = self._stub.RunAgentStream(
            pb.RunAgentStreamRequest(request=_request(command)),
            timeout=deadline_seconds(self._run_seconds),
        )
        try:
            with translate_errors(DEPENDENCY):
                async for response in call:
                    yield event(response.event)
        finally:
            call.cancel()

    async def start(self, command: r.RunCommand) -> r.Run:
        """Starts a run in the background."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.StartRun(pb.StartRunRequest(request=_request(command)), timeout=self._timeout)
        return run(response.run)

    async def get_run(self, run_id: str) -> r.Run:
        """One run with its steps."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetRun(pb.GetRunRequest(id=run_id), timeout=self._timeout)
        return run(response.run)

    async def list_runs(self, page: r.PageQuery, *, conversation_id: str, state: r.RunState | None) -> r.Page[r.Run]:
        """Runs, newest first."""
        request = pb.ListRunsRequest(
            page=convert.page_request(page),
            conversation_id=conversation_id,
            state=convert.enum_number(pb.RunState, "RUN_STATE_", state),
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListRuns(request, timeout=self._timeout)
        return r.Page([run(item) for item in response.runs], response.next_page_token)

    async def cancel_run(self, run_id: str) -> r.Run:
        """Cancels a run."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CancelRun(pb.CancelRunRequest(id=run_id), timeout=self._timeout)
        return run(response.run)

    async def watch(self, run_id: str, after_sequence: int) -> AsyncIterator[r.RunEvent]:
        """Events after a sequence number, until the run ends."""
        call = self._stub.WatchRun(
            pb.WatchRunRequest(id=run_id, after_sequence=after_sequence),
            timeout=deadline_seconds(self._watch_seconds),
        )
        try:
            with translate_errors(DEPENDENCY):
                async for response in call:
                    yield event(response.event)
        finally:
            call.cancel()

    async def list_approvals(
        self, page: r.PageQuery, *, run_id: str, state: r.ApprovalState | None
    ) -> r.Page[r.Approval]:
        """Calls that need a person's approval, newest first."""
        request = pb.ListApprovalsRequest(
            page=convert.page_request(page),
            run_id=run_id,
            state=convert.enum_number(pb.ApprovalState, "APPROVAL_STATE_", state),
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListApprovals(request, timeout=self._timeout)
        return r.Page([_approval(item) for item in response.approvals], response.next_page_token)

    async def approve(self, approval_id: str, *, arguments_json: str, reason: str) -> r.Approval:
        """Lets a call run, with other arguments if given."""
        request = pb.ApproveCallRequest(approval_id=approval_id, edited_arguments_json=arguments_json, reason=reason)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ApproveCall(request, timeout=self._timeout)
        return _approval(response.approval)

    async def refuse(self, approval_id: str, *, reason: str) -> r.Approval:
        """Refuses a call."""
        request = pb.RefuseCallRequest(approval_id=approval_id, reason=reason)
        with translate_errors(DEPENDENCY):
            response = await self._stub.RefuseCall(request, timeout=self._timeout)
        return _approval(response.approval)

    async def create_conversation(self, agent: str, title: str) -> r.Conversation:
        """Makes a conversation."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateConversation(
                pb.CreateConversationRequest(agent=agent, title=title), timeout=self._timeout
            )
        return _conversation(response.conversation)

    async def get_conversation(self, conversation_id: str) -> r.Conversation:
        """One conversation."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetConversation(
                pb.GetConversationRequest(id=conversation_id), timeout=self._timeout
            )
        return _conversation(response.conversation)

    async def list_conversations(self, page: r.PageQuery) -> r.Page[r.Conversation]:
        """Conversations, newest first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListConversations(
                pb.ListConversationsRequest(page=convert.page_request(page)), timeout=self._timeout
            )
        items = [_conversation(item) for item in response.conversations]
        return r.Page(items, response.next_page_token)

    async def delete_conversation(self, conversation_id: str) -> None:
        """Deletes a conversation with its messages and runs."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteConversation(pb.DeleteConversationRequest(id=conversation_id), timeout=self._timeout)

    async def list_messages(self, conversation_id: str, page: r.PageQuery) -> r.Page[r.Message]:
        """Messages, oldest first."""
        request = pb.ListMessagesRequest(conversation_id=conversation_id, page=convert.page_request(page))
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListMessages(request, timeout=self._timeout)
        return r.Page([_message(item) for item in response.messages], response.next_page_token)

    async def create_agent(self, agent: r.Agent) -> r.Agent:
        """Defines an agent."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CreateAgent(
                pb.CreateAgentRequest(agent=_agent_message(agent)), timeout=self._timeout
            )
        return _agent(response.agent)

    async def get_agent(self, name: str) -> r.Agent:
        """One agent."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetAgent(pb.GetAgentRequest(name=name), timeout=self._timeout)
        return _agent(response.agent)

    async def list_agents(self, page: r.PageQuery) -> r.Page[r.Agent]:
        """Agents, the default one first."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListAgents(
                pb.ListAgentsRequest(page=convert.page_request(page)), timeout=self._timeout
            )
        return r.Page([_agent(item) for item in response.agents], response.next_page_token)

    async def update_agent(self, agent: r.Agent, *, expected_version: int) -> r.Agent:
        """Replaces an agent; 0 replaces any version."""
        request = pb.UpdateAgentRequest(agent=_agent_message(agent), expected_version=expected_version)
        with translate_errors(DEPENDENCY):
            response = await self._stub.UpdateAgent(request, timeout=self._timeout)
        return _agent(response.agent)

    async def delete_agent(self, name: str) -> None:
        """Removes an agent."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteAgent(pb.DeleteAgentRequest(name=name), timeout=self._timeout)

    async def submit_feedback(self, feedback: r.Feedback) -> None:
        """Stores feedback on a run."""
        request = pb.SubmitFeedbackRequest(
            run_id=feedback.run_id,
            helpful=feedback.helpful,
            comment=feedback.comment,
            correction=feedback.correction,
        )
        with translate_errors(DEPENDENCY):
            await self._stub.SubmitFeedback(request, timeout=self._timeout)


def _request(command: r.RunCommand) -> pb.RunAgentRequest:
    return pb.RunAgentRequest(
        agent=command.agent,
        conversation_id=command.conversation_id,
        message=command.message,
        idempotency_key=command.idempotency_key,
    )


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
    )


def event(message: pb.RunEvent) -> r.RunEvent:
    """An event of a run."""
    body: r.RunStarted | r.Step | r.TextDelta | r.Approval | r.Run
    match message.WhichOneof("event"):
        case "started":
            started = message.started
            body = r.RunStarted(started.run_id, started.conversation_id, started.agent)
        case "step":
            body = _step(message.step)
        case "delta":
            body = r.TextDelta(message.delta.text)
        case "approval":
            body = _approval(message.approval)
        case _:
            body = run(message.ended)
    return r.RunEvent(message.sequence, convert.moment(message, "at"), body)


def _approval(message: pb.Approval) -> r.Approval:
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


def _conversation(message: pb.Conversation) -> r.Conversation:
    return r.Conversation(
        id=message.id,
        title=message.title,
        agent=message.agent,
        message_count=message.message_count,
        created_at=convert.moment(message, "created_at"),
        updated_at=convert.moment(message, "updated_at"),
    )


def _message(message: pb.ConversationMessage) -> r.Message:
    return r.Message(
        id=message.id,
        role=convert.enum_or(r.MessageRole, pb.MessageRole, message.role, "MESSAGE_ROLE_", r.MessageRole.USER),
        text=message.text,
        run_id=message.run_id,
        created_at=convert.moment(message, "created_at"),
    )


def _agent(message: pb.Agent) -> r.Agent:
    return r.Agent(
        name=message.name,
        description=message.description,
        instructions=message.instructions,
        model=message.model,
        tools=list(message.tools),
        collections=list(message.collections),
        max_steps=message.max_steps,
        max_tokens=message.max_tokens,
        max_seconds=message.max_seconds,
        max_errors=message.max_errors,
        version=message.version,
        is_default=message.is_default,
    )


def _agent_message(agent: r.Agent) -> pb.Agent:
    return pb.Agent(
        name=agent.name,
        description=agent.description,
        instructions=agent.instructions,
        model=agent.model,
        tools=agent.tools,
        collections=agent.collections,
        max_steps=agent.max_steps,
        max_tokens=agent.max_tokens,
        max_seconds=agent.max_seconds,
        max_errors=agent.max_errors,
    )
