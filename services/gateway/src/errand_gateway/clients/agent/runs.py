"""Runs and approvals."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from errand.agent.v1 import agent_pb2 as pb
from errand_common.db import new_id
from errand_common.errors import ErrandError, Unavailable
from errand_common.rpc.client import deadline_seconds, streaming, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY, AgentClient
from errand_gateway.clients.agent.messages import approval, event, priority_name, run
from errand_gateway.domain import resources as r

# A replica that was killed is taken for dead after some 8 s; then others go on with its runs.
_RESUME_PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


class RunClient(AgentClient):
    """Starts, reads and steers runs."""

    async def run(self, command: r.RunCommand) -> r.Run:
        """Runs an agent and waits for the end."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RunAgent(_request(command), timeout=deadline_seconds(self._run_seconds))
        return run(response.run)

    async def stream(self, command: r.RunCommand) -> AsyncIterator[r.RunEvent]:
        """Runs an agent; closing the iterator cancels the run. When its replica ends, others tell the rest."""
        call = self._stub.RunAgentStream(
            pb.RunAgentStreamRequest(request=_request(command)),
            timeout=deadline_seconds(self._run_seconds),
        )
        run_id, sequence = "", 0
        try:
            with streaming(call, DEPENDENCY) as answers:
                async for response in answers:
                    item = event(response.event)
                    run_id, sequence = run_id or _id_of(item), item.sequence
                    yield item
        except Unavailable:
            if not run_id:
                raise
        else:
            return
        async with aclosing(self._rest(run_id, sequence)) as rest:
            async for item in rest:
                yield item

    async def _rest(self, run_id: str, sequence: int) -> AsyncGenerator[r.RunEvent]:
        """What a run tells after this event; closing the iterator cancels the run, unless it waits for a person."""
        is_told = False
        try:
            for pause in _RESUME_PAUSES:
                await asyncio.sleep(pause)
                with suppress(Unavailable):
                    async with aclosing(self.watch(run_id, sequence)) as events:
                        async for item in events:
                            sequence = item.sequence
                            yield item
                    is_told = True
                    return
            raise Unavailable(DEPENDENCY)
        finally:
            if not is_told:
                await asyncio.shield(self._abandon(run_id))

    async def _abandon(self, run_id: str) -> None:
        with suppress(ErrandError):
            if (await self.get_run(run_id)).state is not r.RunState.WAITING:
                await self.cancel_run(run_id)

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

    async def list_runs(self, page: r.PageQuery, wanted: r.RunFilter) -> r.Page[r.Run]:
        """Runs, newest first."""
        request = pb.ListRunsRequest(
            page=convert.page_request(page),
            conversation_id=wanted.conversation_id,
            state=convert.enum_number(pb.RunState, "RUN_STATE_", wanted.state),
            agent=wanted.agent,
            stop_reasons=[convert.enum_number(pb.StopReason, "STOP_REASON_", reason) for reason in wanted.stop_reasons],
            parent_run_id=wanted.parent_run_id,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListRuns(request, timeout=self._timeout)
        return r.Page([run(item) for item in response.runs], response.next_page_token)

    async def fork_run(self, run_id: str, command: r.ForkCommand) -> r.Run:
        """Begins a run that goes on from a model step of an ended one."""
        request = pb.ForkRunRequest(
            id=run_id,
            from_model_step=command.from_model_step,
            instructions=command.instructions,
            model=command.model,
        )
        with translate_errors(DEPENDENCY):
            response = await self._stub.ForkRun(request, timeout=self._timeout)
        return run(response.run)

    async def redrive_run(self, run_id: str) -> r.Run:
        """Begins a run in place of one that failed for reasons that may be gone."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RedriveRun(pb.RedriveRunRequest(id=run_id), timeout=self._timeout)
        return run(response.run)

    async def cancel_run(self, run_id: str) -> r.Run:
        """Cancels a run."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CancelRun(pb.CancelRunRequest(id=run_id), timeout=self._timeout)
        return run(response.run)

    async def watch(self, run_id: str, after_sequence: int) -> AsyncGenerator[r.RunEvent]:
        """Events after a sequence number, until the run ends."""
        call = self._stub.WatchRun(
            pb.WatchRunRequest(id=run_id, after_sequence=after_sequence),
            timeout=deadline_seconds(self._watch_seconds),
        )
        with streaming(call, DEPENDENCY) as answers:
            async for response in answers:
                yield event(response.event)

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
        return r.Page([approval(item) for item in response.approvals], response.next_page_token)

    async def approve(self, approval_id: str, *, arguments_json: str, reason: str) -> r.Approval:
        """Lets a call run, with other arguments if given."""
        request = pb.ApproveCallRequest(approval_id=approval_id, edited_arguments_json=arguments_json, reason=reason)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ApproveCall(request, timeout=self._timeout)
        return approval(response.approval)

    async def refuse(self, approval_id: str, *, reason: str) -> r.Approval:
        """Refuses a call."""
        request = pb.RefuseCallRequest(approval_id=approval_id, reason=reason)
        with translate_errors(DEPENDENCY):
            response = await self._stub.RefuseCall(request, timeout=self._timeout)
        return approval(response.approval)

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


def _id_of(item: r.RunEvent) -> str:
    return item.body.run_id if isinstance(item.body, r.RunStarted) else ""


def _request(command: r.RunCommand) -> pb.RunAgentRequest:
    # A channel asks another replica when the first one ends: that must find the run, not begin a second one.
    key = command.idempotency_key or new_id("call")
    return pb.RunAgentRequest(
        agent=command.agent,
        conversation_id=command.conversation_id,
        message=command.message,
        idempotency_key=key,
        when_busy=pb.WHEN_BUSY_QUEUE if command.when_busy is r.WhenBusy.QUEUE else pb.WHEN_BUSY_UNSPECIFIED,
        priority=priority_name(command.priority),
        start_at=convert.timestamp(command.start_at),
    )
