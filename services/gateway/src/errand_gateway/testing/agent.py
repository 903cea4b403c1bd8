# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake agent service: answers by rule, keeps runs and their events in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from errand.agent.v1 import agent_pb2 as pb
from errand.agent.v1 import agent_pb2_grpc
from errand.common.v1 import common_pb2
from errand_common.db import new_id, utc_now
from errand_common.errors import AlreadyExists, Conflict, ErrandError, InvalidArgument, NotFound
from errand_common.principal import current_principal

from errand_gateway.testing.store import TenantStore, paged

DEFAULT_AGENT: Final = "default"
SLOW: Final = "slow"
"""A message that begins with this word is answered only after `slow_seconds`."""
ASK: Final = "ask"
"""A run in the background whose message begins with this word waits for a person's approval."""
FAIL: Final = "fail"
"""A run whose message begins with this word ends as a dead letter."""


class FakeAgent(agent_pb2_grpc.AgentServiceServicer):
    """Echoes the message after one calculator call.

    `fail_with`, when set, is raised by every run, `break_with` by every run that has begun.
    `was_cancelled` is set when a run's caller went away. A stream ends `linger_seconds` after its last event.
    """

    def __init__(self) -> None:
        self.fail_with: ErrandError | None = None
        self.break_with: ErrandError | None = None
        self.slow_seconds = 30.0
        self.linger_seconds = 0.0
        self.was_cancelled = asyncio.Event()
        self.requests: list[pb.RunAgentRequest] = []
        self._runs: TenantStore[pb.Run] = TenantStore("run")
        self._by_key: TenantStore[str] = TenantStore("idempotency key")
        self._conversations: TenantStore[pb.Conversation] = TenantStore("conversation")
        self._messages: TenantStore[list[pb.ConversationMessage]] = TenantStore("conversation")
        self._approvals: TenantStore[pb.Approval] = TenantStore("approval")
        self._agents: TenantStore[pb.Agent] = TenantStore("agent")

    async def RunAgent(self, request: pb.RunAgentRequest, context: Any) -> pb.RunAgentResponse:
        """Runs at once."""
        run = self._begin(request)
        await self._work(run)
        return pb.RunAgentResponse(run=run)

    async def RunAgentStream(
        self, request: pb.RunAgentStreamRequest, context: Any
    ) -> AsyncIterator[pb.RunAgentStreamResponse]:
        """Streams the events of a run as they happen."""
        run = self._begin(request.request)
        for event in events_of(run)[:2]:
            yield pb.RunAgentStreamResponse(event=event)
        await self._work(run)
        for event in events_of(run)[2:]:
            yield pb.RunAgentStreamResponse(event=event)
        await asyncio.sleep(self.linger_seconds)

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> pb.StartRunResponse:
        """Stores a run that has ended by the next look, or waits for a person when told to ask."""
        run = self._begin(request.request)
        if run.message.startswith(ASK):
            self.wait_for_approval(run.id)
            return pb.StartRunResponse(run=run)
        answer = pb.Run()
        answer.CopyFrom(run)
        answer.state = pb.RUN_STATE_QUEUED
        if not run.message.startswith(SLOW):
            await self._work(run)
        return pb.StartRunResponse(run=answer)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        """One run."""
        return pb.GetRunResponse(run=self._runs.get(request.id))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """Runs, newest first."""
        found = [
            run
            for run in reversed(self._runs.all())
            if request.conversation_id in ("", run.conversation_id)
            and request.state in (pb.RUN_STATE_UNSPECIFIED, run.state)
            and request.agent in ("", run.agent)
            and (not request.stop_reasons or run.stop_reason in request.stop_reasons)
        ]
        rows, token = paged(found, request.page)
        return pb.ListRunsResponse(runs=rows, next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.CancelRunResponse:
        """Ends a run that goes on."""
        run = self._runs.get(request.id)
        if run.state != pb.RUN_STATE_ENDED:
            _end(run, pb.STOP_REASON_CANCELLED)
        return pb.CancelRunResponse(run=run)

    async def ForkRun(self, request: pb.ForkRunRequest, context: Any) -> pb.ForkRunResponse:
        """Goes on from a step of an ended run."""
        return pb.ForkRunResponse(run=await self._again(self._runs.get(request.id)))

    async def RedriveRun(self, request: pb.RedriveRunRequest, context: Any) -> pb.RedriveRunResponse:
        """Tries a failed run again."""
        run = self._runs.get(request.id)
        if run.stop_reason not in (pb.STOP_REASON_UNAVAILABLE, pb.STOP_REASON_INTERNAL, pb.STOP_REASON_INCOMPATIBLE):
            raise Conflict("the run did not fail", resource="run", id=run.id)
        return pb.RedriveRunResponse(run=await self._again(run))

    async def _again(self, origin: pb.Run) -> pb.Run:
        if origin.state != pb.RUN_STATE_ENDED:
            raise Conflict("the run has not ended", resource="run", id=origin.id)
        run = self._begin(pb.RunAgentRequest(message=origin.message.removeprefix(FAIL), agent=origin.agent))
        run.forked_from = origin.id
        await self._work(run)
        return run

    def erase(self) -> dict[str, int]:
        """Forgets all of the current principal's tenant; rows by kind."""
        return {"runs": self._runs.clear(), "conversations": self._conversations.clear()}

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.WatchRunResponse]:
        """Events after a number."""
        run = self._runs.get(request.id)
        for event in events_of(run):
            if event.sequence > request.after_sequence:
                yield pb.WatchRunResponse(event=event)

    def _begin(self, request: pb.RunAgentRequest) -> pb.Run:
        self.requests.append(request)
        if self.fail_with is not None:
            raise self.fail_with
        if request.idempotency_key:
            earlier = self._earlier(request.idempotency_key)
            if earlier is not None:
                return earlier
        agent = request.agent or DEFAULT_AGENT
        if agent != DEFAULT_AGENT:
            self._agents.get(agent)
        conversation = self._conversation(request, agent)
        run = pb.Run(
            id=new_id("run"),
            conversation_id=conversation,
            agent=agent,
            state=pb.RUN_STATE_RUNNING,
            message=request.message,
        )
        run.created_at.FromDatetime(utc_now())
        self._runs.add(run.id, run)
        if request.idempotency_key:
            self._by_key.add(request.idempotency_key, run.id)
        return run

    def _earlier(self, key: str) -> pb.Run | None:
        try:
            return self._runs.get(self._by_key.get(key))
        except NotFound:
            return None

    def _conversation(self, request: pb.RunAgentRequest, agent: str) -> str:
        if request.conversation_id:
            return self._conversations.get(request.conversation_id).id
        return self._new_conversation(agent, request.message[:200]).id

    def _new_conversation(self, agent: str, title: str) -> pb.Conversation:
        conversation = pb.Conversation(id=new_id("conv"), title=title, agent=agent)
        conversation.created_at.FromDatetime(utc_now())
        conversation.updated_at.FromDatetime(utc_now())
        self._messages.add(conversation.id, [])
        return self._conversations.add(conversation.id, conversation)

    async def _work(self, run: pb.Run) -> None:
        if run.state == pb.RUN_STATE_ENDED:
            return
        if self.break_with is not None:
            raise self.break_with
        try:
            if run.message.startswith(SLOW):
                await asyncio.sleep(self.slow_seconds)
        except asyncio.CancelledError:
            self.was_cancelled.set()
            _end(run, pb.STOP_REASON_CANCELLED)
            raise
        if run.message.startswith(FAIL):
            _end(run, pb.STOP_REASON_UNAVAILABLE)
            return
        self._answer(run)

    def _answer(self, run: pb.Run) -> None:
        run.answer = f"You said: {run.message}"
        run.steps.extend(_steps())
        run.usage.CopyFrom(common_pb2.TokenUsage(prompt_tokens=20, completion_tokens=5))
        _end(run, pb.STOP_REASON_ANSWER)
        messages = self._messages.get(run.conversation_id)
        for role, text in ((pb.MESSAGE_ROLE_USER, run.message), (pb.MESSAGE_ROLE_ASSISTANT, run.answer)):
            message = pb.ConversationMessage(id=new_id("msg"), role=role, text=text, run_id=run.id)
            message.created_at.FromDatetime(utc_now())
            messages.append(message)
        self._conversations.get(run.conversation_id).message_count = len(messages)

    def wait_for_approval(self, run_id: str) -> pb.Approval:
        """Lets a stored run wait for a person; the approval it waits for."""
        run = self._runs.get(run_id)
        approval = pb.Approval(
            id=new_id("apr"),
            run_id=run_id,
            tool_name="send_mail",
            arguments_json='{"to":"ada"}',
            state=pb.APPROVAL_STATE_PENDING,
        )
        approval.created_at.FromDatetime(utc_now())
        run.state = pb.RUN_STATE_WAITING
        return self._approvals.add(approval.id, approval)

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Any) -> pb.ListApprovalsResponse:
        """Approvals, newest first."""
        found = [
            row
            for row in reversed(self._approvals.all())
            if request.run_id in ("", row.run_id) and request.state in (pb.APPROVAL_STATE_UNSPECIFIED, row.state)
        ]
        rows, token = paged(found, request.page)
        return pb.ListApprovalsResponse(approvals=rows, next_page_token=token)

    async def ApproveCall(self, request: pb.ApproveCallRequest, context: Any) -> pb.ApproveCallResponse:
        """Lets a call run."""
        row = self._decide(request.approval_id, pb.APPROVAL_STATE_APPROVED, request.reason)
        row.edited_arguments_json = request.edited_arguments_json
        self._answer(self._runs.get(row.run_id))
        return pb.ApproveCallResponse(approval=row)

    async def RefuseCall(self, request: pb.RefuseCallRequest, context: Any) -> pb.RefuseCallResponse:
        """Refuses a call."""
        row = self._decide(request.approval_id, pb.APPROVAL_STATE_REFUSED, request.reason)
        return pb.RefuseCallResponse(approval=row)

    def _decide(self, approval_id: str, state: pb.ApprovalState, reason: str) -> pb.Approval:
        row = self._approvals.get(approval_id)
        if row.state != pb.APPROVAL_STATE_PENDING:
            raise Conflict("the call was decided on", resource="approval", id=row.id)
        row.state, row.reason, row.decided_by = state, reason, current_principal().id
        row.decided_at.FromDatetime(utc_now())
        return row

    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: Any
    ) -> pb.CreateConversationResponse:
        """Makes a conversation."""
        agent = request.agent or DEFAULT_AGENT
        if agent != DEFAULT_AGENT:
            self._agents.get(agent)
        conversation = self._new_conversation(agent, request.title)
        return pb.CreateConversationResponse(conversation=conversation)

    async def GetConversation(self, request: pb.GetConversationRequest, context: Any) -> pb.GetConversationResponse:
        """One conversation."""
        return pb.GetConversationResponse(conversation=self._conversations.get(request.id))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Any
    ) -> pb.ListConversationsResponse:
        """Conversations, newest first."""
        found = [
            row
            for row in reversed(self._conversations.all())
            if request.query.lower() in row.title.lower() and (request.include_archived or not row.archived)
        ]
        rows, token = paged(found, request.page)
        return pb.ListConversationsResponse(conversations=rows, next_page_token=token)

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: Any
    ) -> pb.UpdateConversationResponse:
        """Changes title and archive."""
        row = self._conversations.get(request.id)
        row.title = request.title if request.HasField("title") else row.title
        row.archived = request.archived if request.HasField("archived") else row.archived
        return pb.UpdateConversationResponse(conversation=row)

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Any
    ) -> pb.DeleteConversationResponse:
        """Deletes a conversation."""
        self._conversations.pop(request.id)
        return pb.DeleteConversationResponse()

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Any) -> pb.ListMessagesResponse:
        """Messages, oldest first."""
        self._conversations.get(request.conversation_id)
        rows, token = paged(self._messages.get(request.conversation_id), request.page)
        return pb.ListMessagesResponse(messages=rows, next_page_token=token)

    def messages_of(self, conversation_id: str) -> list[pb.ConversationMessage]:
        """Its messages; raises NotFound."""
        self._conversations.get(conversation_id)
        return self._messages.get(conversation_id)

    async def CreateAgent(self, request: pb.CreateAgentRequest, context: Any) -> pb.CreateAgentResponse:
        """Defines an agent."""
        agent = _with_defaults(request.agent, version=1)
        if agent.name == DEFAULT_AGENT:
            raise AlreadyExists("agent", agent.name)
        return pb.CreateAgentResponse(agent=self._agents.add(agent.name, agent))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        """One agent."""
        return pb.GetAgentResponse(agent=self._agent(request.name))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsResponse:
        """Agents, the default one first."""
        names = [agent.name for agent in self._agents.all() if agent.name != DEFAULT_AGENT]
        agents = [self._agent(name) for name in (DEFAULT_AGENT, *names)]
        rows, token = paged(agents, request.page)
        return pb.ListAgentsResponse(agents=rows, next_page_token=token)

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: Any) -> pb.UpdateAgentResponse:
        """Replaces an agent."""
        current = self._agent(request.agent.name)
        if request.expected_version not in (0, current.version):
            raise Conflict(f"the agent is at version {current.version}", resource="agent", id=current.name)
        agent = _with_defaults(request.agent, version=current.version + 1)
        agent.is_default = current.is_default
        return pb.UpdateAgentResponse(agent=self._agents.put(agent.name, agent))

    async def DeleteAgent(self, request: pb.DeleteAgentRequest, context: Any) -> pb.DeleteAgentResponse:
        """Removes an agent."""
        if request.name == DEFAULT_AGENT:
            raise Conflict("the default agent stays", resource="agent", id=request.name)
        self._agents.pop(request.name)
        return pb.DeleteAgentResponse()

    def _agent(self, name: str) -> pb.Agent:
        try:
            return self._agents.get(name)
        except NotFound:
            if name != DEFAULT_AGENT:
                raise
            default = _with_defaults(pb.Agent(name=name, description="Answers."), version=1)
            default.is_default = True
            return default

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Any) -> pb.SubmitFeedbackResponse:
        """Takes feedback on a run that has ended."""
        run = self._runs.get(request.run_id)
        if run.state != pb.RUN_STATE_ENDED:
            raise InvalidArgument("the run has not ended", field="run_id")
        return pb.SubmitFeedbackResponse()


def _with_defaults(agent: pb.Agent, *, version: int) -> pb.Agent:
    row = pb.Agent()
    row.CopyFrom(agent)
    row.version = version
    row.max_steps = row.max_steps or 8
    row.max_tokens = row.max_tokens or 65_536
    row.max_seconds = row.max_seconds or 120
    row.max_errors = row.max_errors or 3
    return row


def _steps() -> list[pb.Step]:
    arguments = json.dumps({"expression": "6 * 7"})
    return [
        pb.Step(
            index=1,
            kind=pb.STEP_KIND_ACT,
            summary="calculator(6 * 7)",
            tool_name="calculator",
            arguments_json=arguments,
            duration_ms=1.5,
        ),
        pb.Step(
            index=2,
            kind=pb.STEP_KIND_OBSERVE,
            summary="42",
            tool_name="calculator",
            result_json=json.dumps({"result": 42}),
            duration_ms=1.5,
        ),
    ]


def _end(run: pb.Run, reason: pb.StopReason) -> None:
    run.state = pb.RUN_STATE_ENDED
    run.stop_reason = reason
    run.ended_at.FromDatetime(utc_now())
    run.last_sequence = len(events_of(run))


def events_of(run: pb.Run) -> list[pb.RunEvent]:
    """The run's events, the same whenever they are asked for."""
    started = pb.RunStarted(run_id=run.id, conversation_id=run.conversation_id, agent=run.agent)
    events = [
        pb.RunEvent(started=started),
        pb.RunEvent(delta=pb.TextDelta(text="You said: ")),
        *(pb.RunEvent(step=step) for step in run.steps),
    ]
    if run.state == pb.RUN_STATE_ENDED:
        events.append(pb.RunEvent(delta=pb.TextDelta(text=run.message)))
        events.append(pb.RunEvent(ended=run))
    for sequence, event in enumerate(events, 1):
        event.sequence = sequence
        event.at.CopyFrom(run.created_at)
    return events
