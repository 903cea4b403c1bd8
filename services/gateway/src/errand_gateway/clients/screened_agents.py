"""The agent service, told no personal data that the operator does not want stored."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from errand_gateway.clients.agent import GrpcAgentBackend
from errand_gateway.domain import resources as r
from errand_gateway.domain.personal_data import PersonalDataPolicy, screened


class ScreenedAgentBackend(GrpcAgentBackend):
    """AgentBackend whose messages are masked or refused before they are sent."""

    def __init__(self, channel: grpc.aio.Channel, policy: PersonalDataPolicy) -> None:
        super().__init__(channel)
        self._policy = policy

    async def run(self, command: r.RunCommand) -> r.Run:
        """Runs an agent and waits for the end."""
        return await super().run(screened(command, self._policy))

    async def stream(self, command: r.RunCommand) -> AsyncIterator[r.RunEvent]:
        """Runs an agent; closing the iterator cancels the run."""
        async with aclosing(super().stream(screened(command, self._policy))) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def start(self, command: r.RunCommand) -> r.Run:
        """Starts a run in the background."""
        return await super().start(screened(command, self._policy))
