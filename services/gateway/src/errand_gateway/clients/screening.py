"""The agent service, told no personal data that the operator does not want stored: in nothing that people write."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import grpc.aio

from errand_gateway.clients.agent import (
    GrpcAgentBackend,
    GrpcMemoryBackend,
    GrpcScheduleBackend,
    GrpcWorkflowBackend,
)
from errand_gateway.domain import resources as r
from errand_gateway.domain.memory import Fact, KeptFact
from errand_gateway.domain.personal_data import Screening
from errand_gateway.domain.schedules import Schedule
from errand_gateway.domain.workflows import WorkflowRun


class ScreenedAgentBackend(GrpcAgentBackend):
    """AgentBackend whose messages, titles, instructions and opinions are masked or refused before they are sent."""

    def __init__(self, channel: grpc.aio.Channel, screening: Screening) -> None:
        super().__init__(channel)
        self._screening = screening

    async def run(self, command: r.RunCommand) -> r.Run:
        """Runs an agent and waits for the end."""
        return await super().run(await self._said(command))

    async def stream(self, command: r.RunCommand) -> AsyncIterator[r.RunEvent]:
        """Runs an agent; closing the iterator cancels the run."""
        said = await self._said(command)
        async with aclosing(super().stream(said)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def start(self, command: r.RunCommand) -> r.Run:
        """Starts a run in the background."""
        return await super().start(await self._said(command))

    async def fork_run(self, run_id: str, command: r.ForkCommand) -> r.Run:
        """Begins a run that goes on from a model step of an ended one."""
        instructions = command.instructions
        if instructions is not None:
            instructions = await self._screening.text(instructions, field="instructions")
        return await super().fork_run(run_id, replace(command, instructions=instructions))

    async def create_conversation(self, agent: str, title: str) -> r.Conversation:
        """Makes a conversation."""
        return await super().create_conversation(agent, await self._screening.text(title, field="title"))

    async def update_conversation(
        self, conversation_id: str, *, title: str | None, archived: bool | None
    ) -> r.Conversation:
        """Changes what is given."""
        if title is not None:
            title = await self._screening.text(title, field="title")
        return await super().update_conversation(conversation_id, title=title, archived=archived)

    async def submit_feedback(self, feedback: r.Feedback) -> None:
        """Stores feedback on a run."""
        comment = await self._screening.text(feedback.comment, field="comment")
        correction = await self._screening.text(feedback.correction, field="correction")
        await super().submit_feedback(replace(feedback, comment=comment, correction=correction))

    async def _said(self, command: r.RunCommand) -> r.RunCommand:
        return replace(command, message=await self._screening.text(command.message, field="message"))


class ScreenedWorkflowBackend(GrpcWorkflowBackend):
    """WorkflowBackend whose inputs are masked or refused."""

    def __init__(self, channel: grpc.aio.Channel, screening: Screening) -> None:
        super().__init__(channel)
        self._screening = screening

    async def run_workflow(self, name: str, given: str) -> WorkflowRun:
        """Starts a run in the background."""
        return await super().run_workflow(name, await self._screening.text(given, field="input"))


class ScreenedScheduleBackend(GrpcScheduleBackend):
    """ScheduleBackend whose messages are masked or refused."""

    def __init__(self, channel: grpc.aio.Channel, screening: Screening) -> None:
        super().__init__(channel)
        self._screening = screening

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        """Makes or replaces a schedule of the caller."""
        message = await self._screening.text(schedule.message, field="message")
        return await super().put_schedule(replace(schedule, message=message))


class ScreenedMemoryBackend(GrpcMemoryBackend):
    """MemoryBackend whose facts are masked or refused."""

    def __init__(self, channel: grpc.aio.Channel, screening: Screening) -> None:
        super().__init__(channel)
        self._screening = screening

    async def insert_fact(self, fact: Fact) -> KeptFact:
        """Keeps a fact of the caller."""
        return await super().insert_fact(replace(fact, text=await self._screening.text(fact.text, field="text")))
