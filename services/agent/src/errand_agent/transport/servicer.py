"""The AgentService of errand.agent.v1: converts, calls one use case, converts back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC
from typing import Any

from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand_common.errors import InvalidArgument, Unavailable

from errand_agent.domain.runs import EventKind, RunEvent, Step, StopReason
from errand_agent.transport import convert
from errand_agent.use_cases.agents import AgentUseCases
from errand_agent.use_cases.approvals import ApprovalUseCases
from errand_agent.use_cases.conversations import ConversationUseCases
from errand_agent.use_cases.forks import ForkUseCases
from errand_agent.use_cases.runs import RunUseCases


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """Serves runs, conversations and agents."""

    def __init__(
        self,
        runs: RunUseCases,
        conversations: ConversationUseCases,
        agents: AgentUseCases,
        approvals: ApprovalUseCases,
        forks: ForkUseCases,
    ) -> None:
        self._forks = forks
        self._runs, self._conversations, self._agents, self._approvals = runs, conversations, agents, approvals

    async def RunAgent(self, request: pb.RunAgentRequest, context: Any) -> pb.RunAgentResponse:
        """Waits for the end; a caller that goes away cancels the run."""
        run_id = await self._start(request)
        try:
            run = await self._runs.wait(run_id)
        except asyncio.CancelledError:
            await asyncio.shield(self._runs.abandon(run_id))
            raise
        if run.stop_reason is StopReason.UNAVAILABLE:
            raise Unavailable("inference", f"{run.answer} (run {run.id})")
        return pb.RunAgentResponse(run=convert.run_message(run))

    async def RunAgentStream(
        self, request: pb.RunAgentStreamRequest, context: Any
    ) -> AsyncGenerator[pb.RunAgentStreamResponse, None]:
        """Events until the end; a caller that goes away cancels the run."""
        run_id = await self._start(request.request)
        ended = False
        try:
            async with aclosing(self._events(run_id, 0)) as events:
                async for event in events:
                    ended = event.WhichOneof("event") == "ended"
                    yield pb.RunAgentStreamResponse(event=event)
        finally:
            if not ended:
                await asyncio.shield(self._runs.abandon(run_id))

    async def _start(self, request: pb.RunAgentRequest, *, later: bool = False) -> str:
        start_at = request.start_at.ToDatetime(UTC) if request.HasField("start_at") else None
        if start_at is not None and not later:
            raise InvalidArgument("start_at: only a run in the background begins later.", field="start_at")
        return await self._runs.start(
            agent=request.agent,
            conversation_id=request.conversation_id,
            message=request.message,
            idempotency_key=request.idempotency_key,
            priority=convert.priority(request.priority),
            start_at=start_at,
            queues=request.when_busy == pb.WHEN_BUSY_QUEUE,
        )

    async def _events(self, run_id: str, after: int) -> AsyncGenerator[pb.RunEvent, None]:
        steps = await self._runs.steps_until(run_id, after) if after else 0
        async with aclosing(self._runs.watch(run_id, after)) as events:
            async for event in events:
                message = pb.RunEvent(sequence=event.sequence, at=convert.timestamp(event.at))
                if event.kind is EventKind.STEP:
                    steps += 1
                await self._fill(message, event, run_id, steps)
                yield message

    async def _fill(self, message: pb.RunEvent, event: RunEvent, run_id: str, steps: int) -> None:
        match event.kind:
            case EventKind.STARTED:
                message.started.CopyFrom(await self._started(run_id, event))
            case EventKind.STEP:
                message.step.CopyFrom(convert.step_message(Step.from_json(event.payload), steps))
            case EventKind.DELTA:
                message.delta.text = str(event.payload["text"])
            case EventKind.ENDED:
                message.ended.CopyFrom(convert.run_message(await self._runs.get(run_id)))
            case EventKind.TOOL_PROGRESS:
                message.tool_progress.CopyFrom(pb.ToolProgress(**event.payload))
            case EventKind.APPROVAL:
                approval = convert.approval_message(await self._runs.approval(str(event.payload["id"])))
                approval.state = pb.ApprovalState.Value(f"APPROVAL_STATE_{event.payload['state']}")  # type: ignore[assignment]
                message.approval.CopyFrom(approval)

    async def _started(self, run_id: str, event: RunEvent) -> pb.RunStarted:
        if event.payload:
            return pb.RunStarted(run_id=run_id, **event.payload)
        # An earlier version told nothing with it.
        run = await self._runs.get(run_id)
        return pb.RunStarted(run_id=run_id, conversation_id=run.conversation_id, agent=run.agent)

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> pb.StartRunResponse:
        """In the background."""
        run_id = await self._start(request.request, later=True)
        return pb.StartRunResponse(run=convert.run_message(await self._runs.get(run_id)))

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        """One run with its steps."""
        return pb.GetRunResponse(run=convert.run_message(await self._runs.get(request.id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """Newest first."""
        runs, more = await self._runs.page(
            conversation_id=request.conversation_id,
            state=convert.run_state(request.state),
            agent=request.agent,
            stop_reasons=convert.stop_reasons(request.stop_reasons),
            parent_run_id=request.parent_run_id,
            size=request.page.page_size,
            token=request.page.page_token,
        )
        return pb.ListRunsResponse(runs=[convert.run_message(run) for run in runs], next_page_token=more)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        """Asks a run to end."""
        return pb.CancelRunResponse(run=convert.run_message(await self._runs.cancel(request.id)))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncGenerator[pb.WatchRunResponse, None]:
        """Events after a number; going away changes nothing."""
        async with aclosing(self._events(request.id, request.after_sequence)) as events:
            async for event in events:
                yield pb.WatchRunResponse(event=event)

    async def ForkRun(self, request: pb.ForkRunRequest, context: Any) -> pb.ForkRunResponse:
        """Goes on from a step of an ended run."""
        run_id = await self._forks.fork(
            request.id,
            request.from_model_step,
            instructions=request.instructions if request.HasField("instructions") else None,
            model=request.model if request.HasField("model") else None,
        )
        return pb.ForkRunResponse(run=convert.run_message(await self._runs.get(run_id)))

    async def RedriveRun(self, request: pb.RedriveRunRequest, context: Any) -> pb.RedriveRunResponse:
        """Tries a failed run again."""
        run_id = await self._forks.redrive(request.id)
        return pb.RedriveRunResponse(run=convert.run_message(await self._runs.get(run_id)))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Any) -> pb.ListApprovalsResponse:
        """Newest first."""
        found, more = await self._approvals.page(
            run_id=request.run_id,
            state=convert.approval_state(request.state),
            size=request.page.page_size,
            token=request.page.page_token,
        )
        listed = [convert.approval_message(approval) for approval in found]
        return pb.ListApprovalsResponse(approvals=listed, next_page_token=more)

    async def ApproveCall(self, request: pb.ApproveCallRequest, context: Any) -> pb.ApproveCallResponse:
        """Lets a call run."""
        decided = await self._approvals.approve(
            request.approval_id, edited_arguments_json=request.edited_arguments_json, reason=request.reason
        )
        return pb.ApproveCallResponse(approval=convert.approval_message(decided))

    async def RefuseCall(self, request: pb.RefuseCallRequest, context: Any) -> pb.RefuseCallResponse:
        """Refuses a call."""
        decided = await self._approvals.refuse(request.approval_id, reason=request.reason)
        return pb.RefuseCallResponse(approval=convert.approval_message(decided))

    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: Any
    ) -> pb.CreateConversationResponse:
        """A new conversation."""
        made = await self._conversations.create(request.agent, request.title)
        return pb.CreateConversationResponse(conversation=convert.conversation_message(made))

    async def GetConversation(self, request: pb.GetConversationRequest, context: Any) -> pb.GetConversationResponse:
        """One conversation."""
        found = await self._conversations.get(request.id)
        return pb.GetConversationResponse(conversation=convert.conversation_message(found))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Any
    ) -> pb.ListConversationsResponse:
        """The caller's own."""
        found, more = await self._conversations.page(
            request.page.page_size,
            request.page.page_token,
            text=request.query,
            include_archived=request.include_archived,
        )
        listed = [convert.conversation_message(conversation) for conversation in found]
        return pb.ListConversationsResponse(conversations=listed, next_page_token=more)

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: Any
    ) -> pb.UpdateConversationResponse:
        """Title and archive."""
        changed = await self._conversations.update(
            request.id,
            title=request.title if request.HasField("title") else None,
            archived=request.archived if request.HasField("archived") else None,
        )
        return pb.UpdateConversationResponse(conversation=convert.conversation_message(changed))

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Any
    ) -> pb.DeleteConversationResponse:
        """With its messages and runs."""
        await self._conversations.delete(request.id)
        return pb.DeleteConversationResponse()

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Any) -> pb.ListMessagesResponse:
        """Oldest first."""
        found, more = await self._conversations.messages(
            request.conversation_id, request.page.page_size, request.page.page_token
        )
        listed = [convert.message_message(message) for message in found]
        return pb.ListMessagesResponse(messages=listed, next_page_token=more)

    async def CreateAgent(self, request: pb.CreateAgentRequest, context: Any) -> pb.CreateAgentResponse:
        """A new agent."""
        made = await self._agents.create(convert.agent_definition(request.agent))
        return pb.CreateAgentResponse(agent=convert.agent_message(made))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        """One agent."""
        return pb.GetAgentResponse(agent=convert.agent_message(await self._agents.get(request.name)))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsResponse:
        """All of the tenant's; they are few, so there is one page."""
        return pb.ListAgentsResponse(agents=[convert.agent_message(agent) for agent in await self._agents.all()])

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: Any) -> pb.UpdateAgentResponse:
        """A new version."""
        made = await self._agents.update(convert.agent_definition(request.agent), request.expected_version)
        return pb.UpdateAgentResponse(agent=convert.agent_message(made))

    async def DeleteAgent(self, request: pb.DeleteAgentRequest, context: Any) -> pb.DeleteAgentResponse:
        """Removes an agent."""
        await self._agents.delete(request.name)
        return pb.DeleteAgentResponse()

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Any) -> pb.SubmitFeedbackResponse:
        """What a person thinks of an answer."""
        await self._runs.give_feedback(
            request.run_id, helpful=request.helpful, comment=request.comment, correction=request.correction
        )
        return pb.SubmitFeedbackResponse()
