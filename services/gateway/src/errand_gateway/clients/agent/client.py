"""What all clients of the agent service share."""

from typing import TYPE_CHECKING, Final

import grpc.aio
from errand.agent.v1.agent_pb2_grpc import AgentServiceStub
from errand_common.rpc.client import deadline_seconds

if TYPE_CHECKING:
    from errand.agent.v1.agent_pb2_grpc import AgentServiceAsyncStub

DEPENDENCY: Final = "agent"


class AgentClient:
    """Calls AgentService on a channel.

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
