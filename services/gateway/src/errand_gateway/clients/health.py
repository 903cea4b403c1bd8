"""Health of a service over gRPC."""

from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc


class GrpcHealthProbe:
    """Asks a service's health; `timeout_seconds` bounds one question."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_seconds: float = 1.5) -> None:
        # The package's stubs do not tell the methods that the constructor sets.
        self._stub: Any = health_pb2_grpc.HealthStub(channel)
        self._timeout_seconds = timeout_seconds

    async def __call__(self) -> bool:
        """Whether it says SERVING; raises when it cannot be reached."""
        response = await self._stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_seconds)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)
